"""How well raters agree, with one another, with themselves and with what is known.

All functions are pure: NumPy in, NumPy out, and every draw comes from the caller's generator. A
share comes with a 95% interval; where nothing was counted, all three numbers are NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textgym.reward_models.share_intervals import wilson_interval

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Z = 1.959963984540054  # of a 95% interval


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95% interval.

    :param n: what it was counted on.
    """

    value: float
    low: float
    high: float
    n: int


def answer_counts(items: Sequence[int], values: Sequence[int], categories: int) -> Ints:
    """How often each item got each answer, int64 [items, categories], items in order of id.

    :param items: the item of every answer.
    :param values: its category, from 0.
    """
    places = np.unique(np.asarray(items, np.int64), return_inverse=True)[1]
    counts = np.zeros((int(places.max(initial=-1)) + 1, categories), np.int64)
    np.add.at(counts, (places, np.asarray(values, np.int64)), 1)
    return counts


def nominal(categories: int) -> Floats:
    """The distance between names: 1 unless equal, float64 [categories, categories]."""
    return 1.0 - np.eye(categories)


def interval(values: Sequence[float]) -> Floats:
    """The distance between numbers: the square of their difference, [categories, categories]."""
    numbers = np.asarray(values, np.float64)
    return np.asarray((numbers[:, None] - numbers[None, :]) ** 2)


def krippendorff_alpha(counts: npt.ArrayLike, distance: npt.ArrayLike) -> float:
    """Krippendorff's α: 1 is perfect agreement, 0 that of chance.

    Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C. Items with fewer
    than two answers say nothing.

    :param counts: [items, categories], how often each item got each answer.
    :param distance: [categories, categories], symmetric, 0 on the diagonal.
    :returns: NaN where nobody could disagree: fewer than two answers, or all the same.
    """
    observed, answers = _per_item(counts, distance)
    return float(_alpha(np.ones((1, len(observed))), observed, answers, distance)[0])


def alpha_with_interval(
    counts: npt.ArrayLike,
    distance: npt.ArrayLike,
    rng: np.random.Generator,
    *,
    samples: int = 1000,
) -> Estimate:
    """Krippendorff's α with a 95% percentile interval of a bootstrap over items.

    :param samples: of the bootstrap; those in which nobody could disagree are left out.
    :returns: with the number of items that have two answers.
    """
    observed, answers = _per_item(counts, distance)
    items = len(observed)
    value = krippendorff_alpha(counts, distance)
    if items < 2 or np.isnan(value):
        return Estimate(value, np.nan, np.nan, items)
    weights = rng.multinomial(items, np.full(items, 1 / items), size=samples).astype(np.float64)
    drawn = _alpha(weights, observed, answers, distance)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high), items)


def _per_item(counts: npt.ArrayLike, distance: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Observed disagreement [items] and answers [items, categories], of those with two answers."""
    answers = np.asarray(counts, np.float64)
    answers = answers[answers.sum(axis=1) >= 2]
    pairs = np.einsum("uc,uk,ck->u", answers, answers, np.asarray(distance, np.float64))
    return pairs / (answers.sum(axis=1) - 1), answers


def _alpha(weights: Floats, observed: Floats, answers: Floats, distance: npt.ArrayLike) -> Floats:
    """α for each row of item weights, [b, items] → [b]."""
    totals = weights @ answers
    n = totals.sum(axis=1)
    expected = np.einsum("bc,bk,ck->b", totals, totals, np.asarray(distance, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (weights @ observed) * (n - 1) / expected
    return np.asarray(np.where(expected > 0, 1 - ratio, np.nan))


def pairwise_agreement(counts: npt.ArrayLike) -> float:
    """Share of the pairs of answers to one item that are the same; NaN without any.

    :param counts: [items, categories].
    """
    answers = np.asarray(counts, np.float64)
    of_item = answers.sum(axis=1)
    pairs = (of_item * (of_item - 1)).sum()
    return float((answers * (answers - 1)).sum() / pairs) if pairs else float("nan")


def share(hits: int, n: int) -> Estimate:
    """A share of n with its Wilson score interval (Wilson 1927)."""
    if not n:
        return Estimate(np.nan, np.nan, np.nan, 0)
    low, high = wilson_interval(hits / n, n, Z)
    return Estimate(hits / n, low, high, n)


def disputes(counts: npt.ArrayLike) -> Floats:
    """How much raters disagree on each item: the share of pairs of answers that differ.

    :param counts: [items, categories].
    :returns: float64 [items]; NaN for items with fewer than two answers.
    """
    answers = np.asarray(counts, np.float64)
    n = answers.sum(axis=1)
    same = (answers * (answers - 1)).sum(axis=1)
    pairs = n * (n - 1)
    return np.asarray(np.where(pairs > 0, 1 - same / np.maximum(pairs, 1), np.nan))
