"""Aggregates of scores `[seed, prompt]`, each with the share that every score has in its error.

An aggregate's error is, to first order, a mean over seeds and prompts of its *influence values*
(Hampel 1974). They are what a bootstrap over seeds and prompts would find out by drawing, without
its noise, and what `intervals` takes apart into the seeds' part and the prompts'.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from textgym.agents.comparison.study import Floats


@dataclass(frozen=True)
class Aggregate:
    """A figure of scores `[seed, prompt]`.

    :param value: NaN where no score says anything.
    :param influence: `[seed, prompt]`, mean 0: `value` − truth ≈ mean of what these are drawn from.
        A score that is not there has 0.
    """

    value: float
    influence: Floats

    def __sub__(self, other: "Aggregate") -> "Aggregate":
        return Aggregate(self.value - other.value, self.influence - other.influence)


Aggregator = Callable[[Floats], Aggregate]


def mean(scores: Floats) -> Aggregate:
    """The mean of scores `[seed, prompt]`; NaN where a judge says nothing."""
    known = ~np.isnan(scores)
    if not known.any():
        return _nothing(scores)
    value = float(scores[known].mean())
    return Aggregate(value, np.where(known, scores - value, 0.0) / known.mean())


def interquartile_mean(scores: Floats) -> Aggregate:
    """The mean of the middle half of all scores `[seed, prompt]` (Agarwal et al. 2021).

    A quarter of the n scores, rounded down, is cut at each end, as `rliable` and
    `scipy.stats.trim_mean` do. Influence values are those of a trimmed mean: the winsorised
    scores over the share that stays (Tukey & McLaughlin 1963; Wilcox 2017, section 3.3.4).
    """
    known = ~np.isnan(scores)
    if not known.any():
        return _nothing(scores)
    ordered = np.sort(scores[known])
    cut = len(ordered) // 4
    middle = ordered[cut : len(ordered) - cut]
    clipped = np.clip(scores, middle[0], middle[-1])
    share = len(middle) / len(ordered)
    influence = (clipped - clipped[known].mean()) / share
    return Aggregate(float(middle.mean()), np.where(known, influence, 0.0) / known.mean())


def paired_difference(
    scores: Floats, others: Floats, aggregate: Aggregator = interquartile_mean
) -> Aggregate:
    """An aggregate of `scores` less that of `others`, paired by seed and prompt.

    Seeds and prompts count where both sides say something, and what they have in common cancels.

    :param scores: `[seed, prompt]`.
    :param others: the same seeds and prompts.
    """
    known = ~np.isnan(scores) & ~np.isnan(others)
    return aggregate(np.where(known, scores, np.nan)) - aggregate(np.where(known, others, np.nan))


def probability_of_improvement(scores: Floats, others: Floats) -> Aggregate:
    """The chance that a text scores higher than another one of the same prompt; a tie is a half.

    The mean over prompts of P(X > Y), each over all pairs of seeds, as `rliable` has it (Agarwal
    et al. 2021; Mann & Whitney 1947). Influence values are those of a two-sample U statistic
    (Hoeffding 1948), the k-th seeds of both sides together.

    :param scores: `[seed, prompt]`.
    :param others: the same seeds and prompts.
    """
    x, y = scores[:, None], others[None]  # [seed, other seed, prompt]
    wins = np.where(np.isnan(x) | np.isnan(y), np.nan, (x > y) + 0.5 * (x == y))
    per_prompt = _known_mean(_known_mean(wins, 1), 0)
    known = ~np.isnan(per_prompt)
    if not known.any():
        return _nothing(scores)
    value = float(per_prompt[known].mean())
    ours, theirs = (_known_mean(wins, axis) for axis in (1, 0))
    ours, theirs = (np.where(np.isnan(part), per_prompt, part) for part in (ours, theirs))
    influence = ours + theirs - per_prompt - value
    return Aggregate(value, np.where(known, influence, 0.0) / known.mean())


def _known_mean(values: Floats, axis: int) -> Floats:
    known = ~np.isnan(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _nothing(scores: Floats) -> Aggregate:
    return Aggregate(float("nan"), np.zeros(scores.shape))
