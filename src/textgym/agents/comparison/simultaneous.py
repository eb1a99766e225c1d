"""Intervals of many paired differences that hold all together.

Of 66 pairs of equal cells about three differ "significantly" one by one. The level of each pair is
lowered until all intervals of a study hold together in 95 of 100 studies.
"""

from collections.abc import Sequence

import numpy as np

from textgym.agents.comparison.intervals import CONFIDENCE, mixed_df
from textgym.agents.comparison.study import Floats


def simultaneous_level(
    cells: Sequence[Floats],
    pairs: Sequence[tuple[int, int]],
    *,
    level: float = 1 - CONFIDENCE,
    draws: int = 4000,
    seed: int = 0,
) -> float:
    """The level for each of many differences at which all of them hold together.

    A parametric bootstrap of the smallest p-value (Westfall & Young 1993, single-step minP): cells
    that do not differ are drawn with the variances that these have, each pair is tested as
    `interval_of` would, and the answer is the `level` quantile of the smallest p. Pairs that share
    a cell err together, so the intervals are narrower than Bonferroni's. Every cell has a variance
    of its own: an algorithm that now and then fails does not lend its spread to the others, nor
    they theirs to it.

    :param cells: of each cell its influence values `[seed, prompt]`; all have the same shape, and a
        row of NaN is a seed that the cell does not have.
    :param pairs: indices of cells.
    :param draws: of the bootstrap.
    :param seed: of its generator.
    """
    if len(pairs) < 2:
        return level
    from scipy.special import stdtr

    values = np.array(cells, dtype=np.float64)
    n_cells, n_seeds, n_prompts = values.shape
    has = ~np.isnan(values[:, :, 0])
    rng = np.random.default_rng(seed)
    runs = _seed_spread(values, has)[:, None] * rng.standard_normal((draws, n_cells, n_seeds))
    root = _prompt_root(values, has)
    by_prompt = rng.standard_normal((draws, n_cells)) @ root.T
    smallest = np.ones(draws)
    for one, other in pairs:
        both = has[one] & has[other]
        n_both = int(both.sum())
        if not n_both:
            continue
        apart = by_prompt[:, one] - by_prompt[:, other]
        of_prompts = np.full(draws, ((root[one] - root[other]) ** 2).sum())
        of_seeds = np.zeros(draws)
        if n_both > 1:
            difference = runs[:, one, both] - runs[:, other, both]
            apart = apart + difference.mean(axis=1)
            of_seeds = difference.var(axis=1, ddof=1) / n_both
        error = np.sqrt(of_seeds + of_prompts)
        t = np.divide(np.abs(apart), error, out=np.zeros(draws), where=error > 0)
        df = mixed_df(of_seeds, of_prompts, n_both, n_prompts)
        smallest = np.minimum(smallest, 2 * stdtr(df, -t))
    return min(float(np.quantile(smallest, level)), level)


def _seed_spread(values: Floats, has: Floats) -> Floats:
    """`[cell]`, standard deviation of a run's mean, less what the cells of a seed share."""
    means = np.where(has, values.mean(axis=2), 0.0)
    shared = means.sum(axis=0) / np.maximum(has.sum(axis=0), 1)
    own = np.where(has, means - shared, 0.0)
    count = has.sum(axis=1)
    own = np.where(has, own - (own.sum(axis=1) / np.maximum(count, 1))[:, None], 0.0)
    n_cells = len(values)
    # Less the shared part, a cell keeps 1 − 1/n of its own variance.
    variance = (own**2).sum(axis=1) / np.maximum(count - 1, 1) * n_cells / (n_cells - 1)
    return np.asarray(np.sqrt(variance))


def _prompt_root(values: Floats, has: Floats) -> Floats:
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
