"""Intervals for figures over few seeds and many prompts, both of them drawn.

Scores `[seed, prompt]` have two sources of chance that more texts do not average out: a seed's
effect is the same for all its prompts, and a prompt's the same for all seeds. An analysis of
variance of the influence values tells them apart, and a t quantile pays for the few seeds. It is
what a studentised bootstrap over seeds and prompts tends to. A percentile bootstrap counts the
noise three times (Owen 2007) and three seeds' spread with 2/3, and is too wide or too narrow;
benchmarks/results/interval_coverage.md has both.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.agents.comparison.aggregates import Aggregate
from textgym.agents.comparison.study import Floats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; ends are NaN where nothing can be said of it.

    :param seeds: how many there are. With one the interval is over prompts alone.
    """

    value: float
    low: float
    high: float
    seeds: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Variance:
    """The variance of an aggregate over seeds and prompts, by its source.

    :param seeds: of the means over prompts, from `n_seeds` − 1 degrees of freedom; 0 with one seed.
    :param prompts: what the prompts' own effects add, from `n_prompts` − 1.
    :param noise: the part of `seeds` that is chance of single texts; 0 with one seed.
    """

    seeds: float
    prompts: float
    n_seeds: int
    n_prompts: int
    noise: float = 0.0

    @property
    def total(self) -> float:
        """Squared standard error."""
        return self.seeds + self.prompts

    @property
    def df(self) -> float:
        """Degrees of freedom: the harmonic mean of the sources', weighted by their variance.

        Satterthwaite (1946) weighs by the squares. With three seeds that covers 92% where seeds
        make up four fifths of the variance, as the estimated share is too often small; the
        fiducial quantile (Weerahandi 1993) covers 98% where they make up a third. This one stays
        within 94 and 96.5%.
        """
        return float(mixed_df(self.seeds, self.prompts, self.n_seeds, self.n_prompts))


def variance_of(influence: Floats) -> Variance:
    """The variance of the mean of influence values `[seed, prompt]`.

    Two crossed random effects (Searle, Casella & McCulloch 1992, section 4.4): with the mean
    squares of seeds, prompts and residuals, Var = (MS_seed + MS_prompt − MS_residual) / n. What
    the prompts add, MS_prompt − MS_residual, is not let under 0.
    """
    n_seeds, n_prompts = influence.shape
    by_seed, by_prompt = influence.mean(axis=1), influence.mean(axis=0)
    n_free = max(n_prompts - 1, 1)
    of_prompts = float(((by_prompt - by_prompt.mean()) ** 2).sum()) / n_free / n_prompts
    if n_seeds == 1:
        return Variance(0.0, of_prompts, 1, n_prompts)
    residual = influence - by_seed[:, None] - by_prompt + influence.mean()
    square = float((residual**2).sum()) / (n_free * (n_seeds - 1))
    noise = square / (n_seeds * n_prompts)
    of_seeds = float(by_seed.var(ddof=1)) / n_seeds
    return Variance(of_seeds, max(of_prompts - noise, 0.0), n_seeds, n_prompts, noise)


def interval_of(
    figure: Aggregate, *, level: float = 1 - CONFIDENCE, within: tuple[float, float] | None = None
) -> Estimate:
    """An aggregate with its two-sided t interval.

    :param level: the chance of missing the truth; what `simultaneous_level` says for one of many.
    :param within: the ends that the figure cannot leave, such as 0 and 1.
    """
    variance = variance_of(figure.influence)
    n_seeds, n_prompts = figure.influence.shape
    if np.isnan(figure.value) or (n_prompts < 2 and n_seeds < 2):
        return Estimate(figure.value, float("nan"), float("nan"), n_seeds)
    if variance.total <= 1e-12 * variance.noise:  # seeds that came to the same mean by chance
        free = max(n_prompts - 1, 1) * max(n_seeds - 1, 1)
        half = t_quantile(level, free) * variance.noise**0.5
    else:
        half = t_quantile(level, variance.df) * variance.total**0.5
    low, high = figure.value - half, figure.value + half
    if within is not None:
        low, high = max(low, within[0]), min(high, within[1])
    return Estimate(figure.value, low, high, n_seeds)


def t_quantile(level: float, df: float) -> float:
    """Student's t that |T| exceeds with the chance `level`."""
    from scipy.special import stdtrit

    return float(-stdtrit(df, level / 2))


def mixed_df(of_seeds: Any, of_prompts: Any, n_seeds: int, n_prompts: int) -> Any:
    """`Variance.df` of numbers or arrays; as many as the prompts have where nothing varies."""
    total = of_seeds + of_prompts
    share = np.divide(of_seeds, total, out=np.zeros_like(total, np.float64), where=total > 0)
    return 1 / (share / max(n_seeds - 1, 1) + (1 - share) / max(n_prompts - 1, 1))
