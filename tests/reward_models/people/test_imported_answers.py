"""Answers that were given elsewhere are added once, on the right side."""

import pytest

from textgym.errors import InputError
from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import LabelStore

PAIRS = [NewItem(f"{n}", (Text("x"), Text("y")), key=f"{n}") for n in range(6)]
RATED = NewItem("r", (Text("x"),), "rating", key="r")
ROWS = [
    *((pair, "anna", Reply(0, f"anna {n}", "a")) for n, pair in enumerate(PAIRS)),
    (PAIRS[0], "ben", Reply(0, "ben 0", "both_bad")),
    (RATED, "ben", Reply(0, "ben r", "rate", score=4.0)),
]


@pytest.fixture
def store(tmp_path):
    with LabelStore(tmp_path / "labels.db", repeats=0.0, gold=0.0, seed=5) as store:
        yield store


def test_they_are_added_once(store):
    assert store.add_answers(ROWS) == 8
    assert store.add_answers(ROWS) == 0
    assert [event.winner for event in store.events()] == ["first"] * 6 + ["both_bad", None]
    assert [event.rater for event in store.events()] == ["anna"] * 6 + ["ben"] * 2
    again = [(PAIRS[0], "anna", Reply(0, "another key", "b"))]
    assert store.add_answers(again) == 0  # anna has answered it
    assert store.next("anna") == [] and len(store.items()) == 7


def test_an_order_that_was_shown_already_stays(store):
    store.add_items(PAIRS)
    showings = {showing.item.key: showing for showing in store.next("anna", 6)}
    assert {showing.is_swapped for showing in showings.values()} == {True, False}
    store.add_answers(ROWS[:6])
    for event in store.events():
        assert event.winner == "first"
        assert event.choice == ("b" if event.is_swapped else "a")


def test_one_that_does_not_fit_adds_nothing(store):
    with pytest.raises(InputError, match="answer 1: score must be from 1 to 5"):
        store.add_answers([ROWS[0], (RATED, "ben", Reply(0, "k", "rate", score=9.0))])
    assert store.events() == [] and store.items() == []
