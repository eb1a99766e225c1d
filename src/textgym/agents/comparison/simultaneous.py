"""Intervals of many paired differences that hold all together.

Of 66 pairs of equal cells about three differ "significantly" one by one. Here the level of each is
lowered until all intervals hold together in 95 of 100 studies.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.agents.comparison.aggregates import Aggregate
from textgym.agents.comparison.intervals import (
    CONFIDENCE,
    Estimate,
    interval_of,
    t_quantile,
    variance_of,
)
from textgym.agents.comparison.study import Floats

Pair = tuple[int, int]
Flags = npt.NDArray[np.bool_]

WIDEST = 10.0  # SD: an interval that reaches further and covers 0 says nothing


@dataclass(frozen=True)
class _Variances:
    """Of pairs of cells; arrays of one shape.

    :param one: what the seeds of the first cell add, from `n_seeds` − 1 degrees of freedom.
    :param other: those of the second.
    :param prompts: what the prompts add, from `n_prompts` − 1.
    """

    one: Floats
    other: Floats
    prompts: Any
    n_seeds: int
    n_prompts: int

    @property
    def total(self) -> Floats:
        return np.asarray(self.one + self.other + self.prompts)

    @property
    def df(self) -> Floats:
        """Satterthwaite's (1946); what it promises too much the bootstrap takes back."""
        free = (self.one**2 + self.other**2) / max(self.n_seeds - 1, 1)
        free = free + self.prompts**2 / max(self.n_prompts - 1, 1)
        many = np.full(np.shape(free), 1e6)
        return np.asarray(np.divide(self.total**2, free, out=many, where=free > 0))


def simultaneous_intervals(
    cells: Sequence[Floats],
    differences: Sequence[Aggregate],
    pairs: Sequence[Pair],
    *,
    level: float = 1 - CONFIDENCE,
    draws: int = 4000,
    seed: int = 0,
) -> list[Estimate]:
    """Intervals of differences between cells that hold together with the chance 1 − `level`.

    As Games & Howell (1976) have it, every cell has a spread over seeds of its own: an algorithm
    that now and then fails does not lend its spread to the others. It is the spread beside what
    all cells of a seed share, which cancels in every difference, as the prompts' effects do. What
    the pairs' t statistics reach together is found by a parametric bootstrap of the smallest
    p-value (Westfall & Young 1993, single step): cells that do not differ, with these variances.
    A single pair has the interval of `interval_of`.

    :param cells: of each cell its influence values `[seed, prompt]`; all have the same shape, and a
        row of NaN is a seed that the cell does not have.
    :param differences: of each pair, over the seeds that both have.
    :param pairs: indices of cells that have at least one seed in common.
    :param draws: of the bootstrap.
    :param seed: of its generator.
    """
    if len(pairs) < 2:
        return [interval_of(difference, level=level) for difference in differences]
    from scipy.special import stdtr, stdtrit

    values = np.array(cells, dtype=np.float64)
    has = ~np.isnan(values[:, :, 0])
    n_prompts = values.shape[2]
    means = np.where(has, values.mean(axis=2), 0.0)
    of_cells = _seed_variances(means, has)
    root = _prompt_root(values, has)
    rng = np.random.default_rng(seed)
    drawn = np.sqrt(of_cells)[:, None] * rng.standard_normal((draws, *has.shape))
    of_drawn = _seed_variances(drawn, has)
    by_prompt = rng.standard_normal((draws, len(values))) @ root.T

    smallest = np.ones(draws)
    found = []
    for (one, other), difference in zip(pairs, differences, strict=True):
        both = has[one] & has[other]
        n_both = int(both.sum())
        lost = _lost_pairs(difference.influence, values[one][both], values[other][both])
        prompts = variance_of(difference.influence).prompts + lost
        found.append(_pair(of_cells, one, other, prompts, n_both, n_prompts))
        apart = (drawn[:, one] - drawn[:, other])[:, both].mean(axis=1)
        apart += by_prompt[:, one] - by_prompt[:, other]
        if lost:
            apart += lost**0.5 * rng.standard_normal(draws)
        prompts = ((root[one] - root[other]) ** 2).sum() + lost
        variances = _pair(of_drawn, one, other, prompts, n_both, n_prompts)
        error = np.sqrt(variances.total)
        t = np.divide(np.abs(apart), error, out=np.zeros(draws), where=error > 0)
        smallest = np.minimum(smallest, 2 * stdtr(variances.df, -t))
    together = min(float(np.quantile(smallest, level)), level)
    return [
        _estimate(difference, float(of.total) ** 0.5, -float(stdtrit(of.df, together / 2)))
        for difference, of in zip(differences, found, strict=True)
    ]


def separate_intervals(
    figures: Sequence[Aggregate], *, level: float = 1 - CONFIDENCE
) -> list[Estimate]:
    """Intervals of figures that err each by itself, such as gains on each run's own start.

    They hold together with at least the chance 1 − `level` (Šidák 1967). At the small levels of
    many figures `Variance.df` promises too much; here the quantile is the mean of the seeds' and
    the prompts', weighted by their variance (Cochran & Cox 1950, section 4.14).
    """
    if len(figures) < 2:
        return [interval_of(figure, level=level) for figure in figures]
    each = 1 - (1 - level) ** (1 / len(figures))
    found = []
    for figure in figures:
        variance = variance_of(figure.influence)
        of_seeds = t_quantile(each, max(variance.n_seeds - 1, 1))
        of_prompts = t_quantile(each, max(variance.n_prompts - 1, 1))
        share = variance.seeds / variance.total if variance.total > 0 else 0.0
        quantile = share * of_seeds + (1 - share) * of_prompts
        found.append(_estimate(figure, variance.total**0.5, quantile))
    return found


def _estimate(figure: Aggregate, error: float, quantile: float) -> Estimate:
    n_seeds, n_prompts = figure.influence.shape
    half = quantile * error
    says_nothing = half > WIDEST and half > abs(figure.value)
    if np.isnan(figure.value) or n_prompts < 2 or says_nothing:
        return Estimate(figure.value, float("nan"), float("nan"), n_seeds)
    return Estimate(figure.value, figure.value - half, figure.value + half, n_seeds)


def _lost_pairs(difference: Floats, one: Floats, other: Floats) -> float:
    """What it adds to a variance that a pair has fewer texts than each of its cells by itself.

    Where a judge says nothing of a text, its partner is left out too.
    """
    if (difference != 0).all():
        return 0.0
    noise = variance_of(difference).noise - variance_of(one).noise - variance_of(other).noise
    return max(noise, 0.0)


def _pair(
    of_cells: Floats, one: int, other: int, prompts: Any, n_seeds: int, n_prompts: int
) -> _Variances:
    ours, theirs = (of_cells[..., cell] / n_seeds for cell in (one, other))
    return _Variances(ours, theirs, prompts, n_seeds, n_prompts)


def _seed_variances(means: Floats, has: Flags) -> Floats:
    """`[..., cell]`, variance over seeds of a run's mean, less what the cells of a seed share.

    :param means: `[..., cell, seed]`, anything where a cell does not have a seed.
    """
    means = np.where(has, means, 0.0)
    # Less the shared part, n cells keep 1 − 1/n of a variance of their own.
    present = np.maximum(has.sum(axis=0), 1)
    shared = means.sum(axis=-2, keepdims=True) / present
    own = np.where(present > 1, (means - shared) / np.sqrt(1 - 1 / np.maximum(present, 2)), means)
    count = np.maximum(has.sum(axis=1), 1)
    centre = np.where(has, own, 0.0).sum(axis=-1) / count
    own = np.where(has, own - centre[..., None], 0.0)
    return np.asarray((own**2).sum(axis=-1) / np.maximum(count - 1, 1))


def _prompt_root(values: Floats, has: Flags) -> Floats:
    """`[cell, cell]` R with R Rᵀ the covariance of what the prompts' effects do to the cells."""
    count = np.maximum(has.sum(axis=1), 1)
    known = np.where(has[:, :, None], values, 0.0)
    by_prompt = known.sum(axis=1) / count[:, None]
    n_prompts = by_prompt.shape[1]
    free = max(n_prompts - 1, 1)
    centred = by_prompt - by_prompt.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T / free
    residual = np.where(has[:, :, None], known - by_prompt[:, None], 0.0)
    residual = residual - residual.mean(axis=2, keepdims=True)
    noise = (residual**2).sum(axis=(1, 2)) / (free * np.maximum(count - 1, 1)) / count
    covariance -= np.diag(np.where(count > 1, noise, 0.0))
    sizes, vectors = np.linalg.eigh(covariance / n_prompts)
    return np.asarray(vectors * np.sqrt(np.maximum(sizes, 0.0)))
