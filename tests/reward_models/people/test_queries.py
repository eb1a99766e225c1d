"""Which pairs are asked: hand-computed picks."""

import numpy as np
import pytest

from textgym.errors import UnknownNameError
from textgym.reward_models.people.queries import (
    at_random,
    candidates,
    disagreement,
    most_disagreed,
    query_rule,
)

# Three members, four pairs.
PREFERENCES = np.array([[0.5, 0.9, 0.2, 0.6], [0.5, 0.1, 0.2, 0.9], [0.5, 0.5, 0.8, 0.6]])
PLACES = np.array([[0, 1], [2, 3], [3, 4], [5, 6]])


def rng():
    return np.random.default_rng(0)


def test_disagreement_is_the_members_standard_deviation():
    # pair 1: mean .5, deviations .4 -.4 0; pair 2: mean .4, -.2 -.2 .4; pair 3: mean .7, -.1 .2 -.1
    expected = [0, (0.32 / 3) ** 0.5, (0.24 / 3) ** 0.5, (0.06 / 3) ** 0.5]
    assert disagreement(PREFERENCES) == pytest.approx(expected)


def test_the_most_disagreed_come_first_and_no_text_twice():
    # By disagreement 1, 2, 3, 0; pair 2 shares text 3 with pair 1.
    assert most_disagreed(PREFERENCES, PLACES, 4, rng()) == [1, 3, 0]
    assert most_disagreed(PREFERENCES, PLACES, 2, rng()) == [1, 3]
    assert most_disagreed(PREFERENCES, PLACES, 0, rng()) == []


def test_pairs_that_tie_stay_in_order():
    places = np.array([[0, 1], [2, 3], [4, 5]])
    assert most_disagreed(np.full((3, 3), 0.7), places, 2, rng()) == [0, 1]
    assert most_disagreed(np.zeros((0, 3)), places, 2, rng()) == [0, 1]


def test_random_picks_every_pair_equally_often_whatever_members_say():
    places = np.array([[0, 1], [2, 3], [4, 5], [6, 7]])
    generator = rng()
    counts = np.zeros(4)
    for _ in range(2000):
        counts[at_random(PREFERENCES, places, 1, generator)] += 1
    assert np.abs(counts - 500).max() < 5 * (2000 * 0.25 * 0.75) ** 0.5


def test_candidates_share_a_prompt_differ_and_have_a_new_text():
    texts = [("p", "a"), ("q", "x"), ("p", "b"), ("p", "a "), ("q", "y"), ("p", "c")]
    asked = {frozenset([("p", "b"), ("p", "c")])}
    # New are the last three: "a " (the same words as "a"), q's "y", and "c" (asked with "b").
    pairs = candidates(texts, 3, asked, 10, rng())
    assert sorted(map(tuple, pairs.tolist())) == [(0, 5), (1, 4), (2, 3), (3, 5)]


def test_no_pair_of_old_texts_and_none_at_all():
    assert candidates([("p", "a"), ("p", "b")], 0, (), 10, rng()).shape == (0, 2)
    assert candidates([], 0, (), 10, rng()).shape == (0, 2)


def test_candidates_are_limited_and_the_draw_is_the_generators():
    texts = [("p", str(number)) for number in range(20)]
    pairs = candidates(texts, 20, (), 15, rng())
    assert len({tuple(pair) for pair in pairs.tolist()}) == 15
    assert pairs.tolist() == candidates(texts, 20, (), 15, rng()).tolist()


def test_rules_have_names():
    assert query_rule("random") is at_random
    with pytest.raises(UnknownNameError, match="unknown query rule 'disagreemnt': did you mean"):
        query_rule("disagreemnt")
