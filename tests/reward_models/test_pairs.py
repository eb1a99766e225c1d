"""Pairs from ratings: real raters, ties, and the ceiling, on ratings made by hand."""

from dataclasses import dataclass

import numpy as np
import pytest

from textgym.errors import InputError
from textgym.reward_models.learned.pairs import (
    Pairs,
    agreement,
    mean_ratings,
    pair_accuracy,
    rater_pairs,
    text_pairs,
)


@dataclass(frozen=True)
class Item:
    text: str
    ratings: tuple[float, ...]
    block: int | None = None


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_pair_of_a_block_once_and_none_across() -> None:
    rated = [Item(str(k), (1.0,), block=k % 2) for k in range(7)]  # blocks of 4 and 3
    first, second = text_pairs(rated, rng())
    found = {tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert len(first) == len(found) == 6 + 3
    assert all(a % 2 == b % 2 for a, b in found)


def test_loose_texts_get_as_many_pairs_as_asked_and_never_themselves() -> None:
    first, second = text_pairs([Item("", (1.0,))] * 5, rng(), loose_pairs_per_text=3)
    assert np.bincount(np.concatenate([first, second])).tolist() == [6] * 5
    assert (first != second).all()
    assert len(text_pairs([Item("", (1.0,))], rng())[0]) == 0


def test_inside_a_block_one_rater_judges_both_texts() -> None:
    # each rater has a scale of his own: 0 and 1, 10 and 11, ...; the second text is always better
    low = tuple(10.0 * k for k in range(6))
    rated = [Item("low", low, 1), Item("high", tuple(r + 1 for r in low), 1)]
    for seed in range(20):
        pairs = rater_pairs(rated, rng(seed))
        assert pairs.label.tolist() == [float(pairs.first[0] == 1)]


def test_without_a_block_two_raters_are_drawn() -> None:
    low = tuple(10.0 * k for k in range(6))
    rated = [Item("low", low), Item("high", tuple(r + 1 for r in low))]
    pairs = rater_pairs(rated, rng(), loose_pairs_per_text=200)
    agreeing = np.mean((pairs.label == 1) == (pairs.first == 1))
    # same rater or a higher one: 21 of 36 draws put the second text above
    assert agreeing == pytest.approx(21 / 36, abs=0.08)


def test_ties_have_label_one_half() -> None:
    rated = [Item("a", (1, 2), 0), Item("b", (1, 2), 0)]
    pairs = rater_pairs(rated, rng())
    assert pairs.label.tolist() == [0.5]
    assert pairs.is_decided.tolist() == [False]


def test_the_same_seed_gives_the_same_pairs() -> None:
    rated = [Item(str(k), (k % 3, k % 5, k % 7), k // 6) for k in range(18)]
    one, two, other = (rater_pairs(rated, rng(seed)) for seed in (1, 1, 2))
    assert (one.label == two.label).all()
    assert (one.first == two.first).all()
    assert (one.label != other.label).any()


def test_agreement_of_raters_by_hand() -> None:
    # two raters of three agree on every pair, the third always says the opposite
    rated = [Item(str(k), (k, k, -k), 0) for k in range(40)]
    result = agreement(rated, rng())
    assert result.pairs == 40 * 39 // 2
    assert result.rater_vs_rater == pytest.approx(1 / 3, abs=0.06)
    # the rest of a minority rater (2/3 of draws: one for, one against) is tied and not counted
    assert result.rater_vs_rest == 0.0


def test_agreement_is_one_where_all_agree_and_unknown_with_one_rater() -> None:
    assert agreement([Item(str(k), (k, k), 0) for k in range(5)], rng()).rater_vs_rater == 1.0
    lonely = agreement([Item(str(k), (k,), 0) for k in range(5)], rng())
    assert np.isnan(lonely.rater_vs_rater)
    assert np.isnan(lonely.rater_vs_rest)
    assert lonely.pairs == 0


def test_pair_accuracy_skips_ties_and_halves_equal_scores() -> None:
    pairs = Pairs(np.array([0, 0, 1, 0]), np.array([1, 2, 2, 3]), np.array([1.0, 0.0, 0.5, 1.0]))
    # decided: 0>1 right, 0<2 wrong, 0>3 equal scores
    assert pair_accuracy([3.0, 1.0, 2.0, 3.0], pairs) == pytest.approx(1.5 / 3)
    assert pairs.count_decided() == 3
    again = Pairs(np.array([0, 1, 2]), np.array([1, 0, 0]), np.array([1.0, 1.0, 0.5]))
    assert again.count_decided() == 1
    assert np.isnan(pair_accuracy([1.0, 2.0], Pairs(np.array([0]), np.array([1]), np.array([0.5]))))


@pytest.mark.parametrize("ratings", [(), (1.0, float("nan"))])
def test_ratings_must_be_there_and_finite(ratings: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"text 2 \('b'\) needs at least one finite rating"):
        mean_ratings([Item("a", (1.0,)), Item("b", ratings)])
