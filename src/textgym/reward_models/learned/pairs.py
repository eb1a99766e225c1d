"""Comparison pairs from people's ratings, and how well people agree with one another.

A rating scale means something else to each rater, a comparison by one rater does not: so a pair is
two texts that one real rater scored, its label which of them that rater scored higher. Rater
identity is known where texts share a `block` (a task in which the same people, in the same order,
rated every text: position k of `ratings` is rater k). A text with block None has no identity; there
each side of a pair gets a rater drawn for itself.

All functions are pure: NumPy in, NumPy out, and every draw comes from the caller's generator.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError


class Rated(Protocol):
    """A text that people rated: the bundled reviews, a row of a ratings file."""

    @property
    def text(self) -> str:
        """The text that was rated."""

    @property
    def ratings(self) -> Sequence[float]:
        """One rating per rater, higher is better."""

    @property
    def block(self) -> Hashable | None:
        """The task whose raters rated this text in one order, or None."""


@dataclass(frozen=True)
class Pairs:
    """p comparisons of texts, by their places in a list.

    :param first: int64 [p].
    :param second: int64 [p].
    :param label: float64 [p], probability that the first is the better one: 1, 0, or .5 for a tie.
    :param ties: float64 [p], share of ties where a label stands for several people; None where each
        stands for one, and a tie is a label of .5.
    """

    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    label: npt.NDArray[np.float64]
    ties: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.label)

    @property
    def is_decided(self) -> npt.NDArray[np.bool_]:
        """bool [p], True where the label is no tie."""
        return np.asarray(self.label != 0.5)

    @property
    def tie_share(self) -> npt.NDArray[np.float64]:
        """float64 [p], share of ties among the judgements that a label stands for."""
        return (self.label == 0.5).astype(np.float64) if self.ties is None else self.ties

    def count_decided(self) -> int:
        """How many different pairs of texts somebody decided, whichever stands first."""
        both = np.sort(np.stack([self.first, self.second]), axis=0)[:, self.is_decided]
        return int(np.unique(both, axis=1).shape[1])


@dataclass(frozen=True)
class Ratings:
    """m ratings of texts, by their places in a list.

    :param owners: int64 [m], which text was rated.
    :param values: float64 [m].
    """

    owners: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """How often people agree on which of two texts is better: a reward model's ceiling.

    :param rater_vs_rater: share of pairs on which two raters agree, both without a tie.
    :param rater_vs_rest: share on which a rater agrees with the mean of all other raters.
    :param pairs: pairs that `rater_vs_rater` is the share of.
    """

    rater_vs_rater: float
    rater_vs_rest: float
    pairs: int


def mean_ratings(rated: Sequence[Rated]) -> npt.NDArray[np.float64]:
    """float64 [b], the mean rating of each text.

    :raises InputError: if a text has no rating or one that is not finite.
    """
    means = np.array([np.mean(r.ratings) if len(r.ratings) else np.nan for r in rated], float)
    bad = np.flatnonzero(~np.isfinite(means))
    if len(bad):
        text = rated[int(bad[0])].text[:40]
        raise InputError(
            f"text {int(bad[0]) + 1} ({text!r}) needs at least one finite rating, got "
            f"{list(rated[int(bad[0])].ratings)[:8]}"
        )
    return means


def text_pairs(
    rated: Sequence[Rated], rng: np.random.Generator, *, loose_pairs_per_text: int = 8
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Which texts to compare: every pair inside a block, and random pairs of texts without one.

    :param loose_pairs_per_text: pairs per text with block None (a text in a block has as many as
        the block gives).
    :returns: two int64 arrays [p] of places in `rated`; which text is first is a coin's toss.
    """
    blocks: dict[Hashable, list[int]] = {}
    loose: list[int] = []
    for place, item in enumerate(rated):
        if item.block is None:
            loose.append(place)
        else:
            blocks.setdefault(item.block, []).append(place)
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for members in blocks.values():
        a, b = np.triu_indices(len(members), k=1)
        places = np.array(members, np.int64)
        first.append(places[a])
        second.append(places[b])
    if len(loose) > 1:
        places = np.array(loose, np.int64)
        for _ in range(loose_pairs_per_text):
            ring = rng.permutation(places)  # neighbours on a ring: never a text with itself
            first.append(ring)
            second.append(np.roll(ring, 1))
    one, other = np.concatenate(first), np.concatenate(second)
    is_swapped = rng.random(len(one)) < 0.5
    return np.where(is_swapped, other, one), np.where(is_swapped, one, other)


def rater_pairs(
    rated: Sequence[Rated],
    rng: np.random.Generator,
    *,
    draws: int = 1,
    loose_pairs_per_text: int = 8,
) -> Pairs:
    """Pairs of texts, each labelled by one random real rater; ties have label .5.

    Pass the texts of one split only: no pair crosses out of the list.

    :param draws: how often; each time other raters are drawn, and other pairs of loose texts.
    :raises InputError: if a text has no finite rating.
    """
    ratings = _Ratings(rated)
    drawn = []
    for _ in range(draws):
        first, second = text_pairs(rated, rng, loose_pairs_per_text=loose_pairs_per_text)
        rater_a, rater_b = ratings.draw(first, second, rng)
        difference = ratings.table[first, rater_a] - ratings.table[second, rater_b]
        drawn.append((first, second, (np.sign(difference) + 1.0) / 2.0))
    first, second, label = (np.concatenate(part) for part in zip(*drawn, strict=True))
    return Pairs(first, second, label)


def all_rater_pairs(rated: Sequence[Rated], rng: np.random.Generator) -> Pairs:
    """Pairs of texts, each labelled by the mean over all raters that both have.

    What `rater_pairs` draws one rater at a time, without the noise of drawing: a loss that is
    linear in the label has the same expectation. Texts without a block have no rater in common;
    their labels are means over all pairs of one's ratings with the other's.

    :raises InputError: if a text has no finite rating.
    """
    table = _Ratings(rated)
    first, second = text_pairs(rated, rng)
    is_same = table.is_known[first] & table.is_known[second]
    label, ties = np.zeros(len(first)), np.zeros(len(first))
    signs = np.sign(table.table[first[is_same]] - table.table[second[is_same]])
    label[is_same] = (np.nanmean(signs, axis=1) + 1) / 2
    ties[is_same] = np.nanmean(np.where(np.isnan(signs), np.nan, signs == 0), axis=1)
    for p in np.flatnonzero(~is_same):
        one, other = (np.asarray(rated[int(side[p])].ratings, float) for side in (first, second))
        outcomes = np.sign(one[:, None] - other[None, :])
        label[p], ties[p] = (outcomes.mean() + 1) / 2, (outcomes == 0).mean()
    return Pairs(first, second, label, ties)


def all_ratings(rated: Sequence[Rated]) -> Ratings:
    """Every rating of every text."""
    owners = np.repeat(np.arange(len(rated)), [len(item.ratings) for item in rated])
    values = [float(value) for item in rated for value in item.ratings]
    return Ratings(owners.astype(np.int64), np.array(values, np.float64))


class _Ratings:
    """All ratings as one table [b, most raters], and draws of raters for pairs of its rows."""

    def __init__(self, rated: Sequence[Rated]) -> None:
        self.means = mean_ratings(rated)
        self.counts = np.array([len(item.ratings) for item in rated], np.int64)
        self.table = np.full((len(rated), int(self.counts.max(initial=1))), np.nan)
        for row, item in zip(self.table, rated, strict=True):
            row[: len(item.ratings)] = item.ratings
        self.is_known = np.array([item.block is not None for item in rated], bool)

    def _rings(
        self, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """How many raters each side of a pair may be given, and whether both get the same."""
        is_same = self.is_known[first] & self.is_known[second]
        shared = np.minimum(self.counts[first], self.counts[second])
        ring_a = np.where(is_same, shared, self.counts[first])
        return ring_a, np.where(is_same, shared, self.counts[second]), is_same

    def draw(
        self,
        first: npt.NDArray[np.int64],
        second: npt.NDArray[np.int64],
        rng: np.random.Generator,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """A rater for each side of each pair, the same one where raters are known."""
        ring_a, ring_b, is_same = self._rings(first, second)
        rater_a = _draw(rng, ring_a)
        return rater_a, np.where(is_same, rater_a, _draw(rng, ring_b))

    def draw_other(
        self,
        first: npt.NDArray[np.int64],
        second: npt.NDArray[np.int64],
        raters: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
        rng: np.random.Generator,
    ) -> npt.NDArray[np.float64]:
        """The rating difference [p] seen by other raters than `raters`; NaN where there is none."""
        ring_a, ring_b, is_same = self._rings(first, second)
        step_a = 1 + _draw(rng, ring_a - 1)  # 1 .. n-1 around the ring: never the same rater
        step_b = np.where(is_same, step_a, 1 + _draw(rng, ring_b - 1))
        other_a, other_b = (raters[0] + step_a) % ring_a, (raters[1] + step_b) % ring_b
        difference = self.table[first, other_a] - self.table[second, other_b]
        return np.where((ring_a > 1) & (ring_b > 1), difference, np.nan)


def _draw(rng: np.random.Generator, bounds: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """int64, uniform in 0 .. bound-1 for each bound; 0 where the bound is below 1."""
    drawn = (rng.random(len(bounds)) * bounds).astype(np.int64)
    return np.clip(drawn, 0, np.maximum(bounds - 1, 0))


def agreement(rated: Sequence[Rated], rng: np.random.Generator) -> Agreement:
    """How well raters agree on pairs; the honest ceiling for a model's pair accuracy.

    Two different raters compare each pair; where neither sees a tie, do they agree? And does the
    first agree with the mean of all the others (ties aside)?

    :returns: shares in [0, 1]; NaN where no pair counts.
    """
    ratings = _Ratings(rated)
    first, second = text_pairs(rated, rng)
    rater_a, rater_b = ratings.draw(first, second, rng)
    own_a, own_b = ratings.table[first, rater_a], ratings.table[second, rater_b]
    one = np.sign(own_a - own_b)
    other = np.sign(ratings.draw_other(first, second, (rater_a, rater_b), rng))
    rest_a = _rest_mean(ratings.means[first], ratings.counts[first], own_a)
    rest_b = _rest_mean(ratings.means[second], ratings.counts[second], own_b)
    rest = np.sign(np.round(rest_a - rest_b, 9))
    is_counted = (np.abs(one) == 1) & (np.abs(other) == 1)
    return Agreement(
        _share(one == other, is_counted),
        _share(one == rest, (np.abs(one) == 1) & (np.abs(rest) == 1)),
        int(is_counted.sum()),
    )


def _rest_mean(
    mean: npt.NDArray[np.float64], count: npt.NDArray[np.int64], own: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The mean rating without one rater's; NaN where there is no other."""
    return np.where(count > 1, (mean * count - own) / np.maximum(count - 1, 1), np.nan)


def _share(is_hit: npt.NDArray[np.bool_], is_counted: npt.NDArray[np.bool_]) -> float:
    return float(is_hit[is_counted].mean()) if is_counted.any() else float("nan")


def pair_accuracy(scores: npt.ArrayLike, pairs: Pairs) -> float:
    """Share of decided pairs whose better text scores higher; equal scores count half.

    :param scores: float [b], a score for each text that the pairs point to.
    :returns: in [0, 1]; NaN if every pair is a tie.
    """
    values = np.asarray(scores, np.float64)
    difference = np.sign(values[pairs.first] - values[pairs.second])
    hit = (difference * np.sign(pairs.label - 0.5) + 1.0) / 2.0
    return float(hit[pairs.is_decided].mean()) if pairs.is_decided.any() else float("nan")
