"""Simulated raters: real people's scores, and judges with noise."""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

from textgym.errors import InputError
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.simulated import (
    JudgeRater,
    RatingsRater,
    answer_open,
    boltzmann,
    choice_of,
)
from textgym.reward_models.people.store import LabelStore


class Rated(NamedTuple):
    text: str
    ratings: tuple
    block: int | None = 1


# Rater by rater: first better, tie, second better, first better.
ONE, OTHER = Rated("p one", (3, 1, -2, 4)), Rated("p other", (1, 1, 0, -4))


def shares(rater, first="one", second="other", draws=4000):
    rng = np.random.default_rng(0)
    found = Counter(rater("p ", first, second, rng) for _ in range(draws))
    return {winner: count / draws for winner, count in found.items()}


def test_one_real_rater_is_drawn_for_each_question():
    found = shares(RatingsRater([ONE, OTHER]))
    assert found == pytest.approx({"first": 0.5, "tie": 0.25, "second": 0.25}, abs=0.035)
    turned = shares(RatingsRater([ONE, OTHER]), "other", "one")
    assert turned == pytest.approx({"second": 0.5, "tie": 0.25, "first": 0.25}, abs=0.035)


def test_texts_of_other_blocks_are_rated_by_two_people():
    apart = RatingsRater([ONE, OTHER._replace(block=2)])
    # All 16 pairs of scores: 3 beats 1 1 0 -4; 1 beats 0 -4 and ties twice; -2 beats -4; 4 beats 4.
    assert shares(apart) == pytest.approx(
        {"first": 11 / 16, "tie": 2 / 16, "second": 3 / 16}, abs=0.035
    )


def test_nobody_answers_for_texts_that_nobody_rated():
    assert RatingsRater([ONE])("p ", "one", "new", np.random.default_rng(0)) is None


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_boltzmann_noise_is_bradley_terrys(temperature):
    rng = np.random.default_rng(0)
    found = Counter(boltzmann(1.0, temperature, rng) for _ in range(4000))
    assert found["first"] / 4000 == pytest.approx(1 / (1 + math.exp(-1 / temperature)), abs=0.035)
    assert found.total() == found["first"] + found["second"]
    with pytest.raises(InputError, match="temperature must be positive and finite, got 0"):
        boltzmann(1.0, 0, rng)


def test_a_judge_answers_by_its_scores():
    judge = JudgeRater(
        lambda prompts, completions: [float(len(c)) for c in completions], temperature=2.0
    )
    expected = 1 / (1 + math.exp(-3 / 2))
    assert shares(judge, "abcd", "a", 800)["first"] == pytest.approx(expected, abs=0.08)


def test_a_store_is_answered_as_a_person_would(tmp_path):
    with LabelStore(tmp_path / "labels.db", repeats=0.0) as store:
        texts = [
            (Text("one"), Text("other")),
            (Text("other"), Text("one")),
            (Text("new"), Text("one")),
        ]
        store.add_items([NewItem("p ", pair) for pair in texts])
        rater = RatingsRater([ONE._replace(ratings=(3,)), OTHER._replace(ratings=(1,))])
        events = answer_open(store, rater, most=2) + answer_open(store, rater)
        assert {e.item: (e.winner, e.reason) for e in events} == {
            1: ("first", None),
            2: ("second", None),
            3: (None, "cannot_judge"),
        }
        assert answer_open(store, rater) == []


def test_choices_follow_the_order_on_the_screen():
    sides = [
        choice_of(winner, swapped) for winner in ("first", "second") for swapped in (False, True)
    ]
    assert sides == ["a", "b", "b", "a"]
    assert (choice_of("both_bad", True), choice_of(None, True)) == ("both_bad", "skip")
