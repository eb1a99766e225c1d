"""The owner's overview against figures counted by hand, and on the page."""

import pytest
from fastapi.testclient import TestClient

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.labelling.overview import overview_of
from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import LabelStore

# What each says of "Film 0" (gold: the first), "Film 1", "Film 2", and the seconds it took.
SAID = {
    "anna": (("first", 2), ("first", 4), ("second", 1)),
    "bo": (("second", 3), ("second", 9), ("second", 8)),
}


@pytest.fixture
def store(tmp_path):
    settings = {"raters": 2, "repeats": 0.0, "gold": 0.0, "seed": 3}
    with LabelStore(tmp_path / "labels.db", **settings) as store:
        gold = ("first", None, None)
        sides = (Text("<b>one", {"run": "secret"}), Text("two", {"run": "secret"}))
        store.add_items([NewItem(f"Film {n}", sides, gold=gold[n]) for n in range(3)])
        for rater, said in SAID.items():
            for showing in store.next(rater, 3):
                winner, seconds = said[int(showing.item.prompt[-1])]
                choice = "a" if (winner == "first") != showing.is_swapped else "b"
                times = {"shown_at": 1000.0, "answered_at": 1000.0 + seconds}
                key = f"{rater} {showing.id:06}"
                store.answer(rater, Reply(showing.id, key, choice, **times))
        yield store


def test_the_figures_are_those_counted_by_hand(store):
    seen = overview_of(store.items(), store.events(), store.raters(), store.settings)
    assert (seen.answers, seen.items, seen.covered) == (6, 2, 2)
    anna, bo = seen.raters
    assert (anna.name, anna.answers, anna.seconds, anna.fast) == ("anna", 3, 2.0, 1)
    assert (anna.gold_right, anna.gold, bo.gold_right, bo.gold) == (1, 1, 0, 1)
    assert bo.seconds == 8.0 and bo.fast == 0 and bo.skips == 0
    left = [event.choice for event in store.events()].count("a")
    assert (seen.left.value, seen.left.n) == (left / 6, 6)
    (disputed,) = seen.disputed
    assert (disputed.prompt, disputed.apart) == ("Film 1", 1.0)
    assert disputed.votes == {"first": 1, "second": 1, "tie": 0, "both_bad": 0}


def test_a_repeat_counts_for_its_rater_alone(tmp_path):
    with LabelStore(tmp_path / "labels.db", repeats=0.5, gold=0.0, seed=1) as store:
        store.add_items([NewItem(f"Film {n}", (Text("x"), Text("y"))) for n in range(40)])
        repeated = 0
        for number in range(30):
            (showing,) = store.next("anna")
            winner = "second" if showing.is_repeat and repeated == 0 else "first"
            repeated += showing.is_repeat
            choice = "a" if (winner == "first") != showing.is_swapped else "b"
            store.answer("anna", Reply(showing.id, f"key {number:06}", choice))
        seen = overview_of(store.items(), store.events(), store.raters(), store.settings)
    assert repeated > 2
    assert (seen.raters[0].repeats, seen.raters[0].repeats_same) == (repeated, repeated - 1)
    assert seen.covered == 30 - repeated and seen.disputed == ()


def test_the_page_is_for_the_owner_and_names_no_run(store):
    access = Access("t" * 43, store.settings.id)
    page = {}
    for rater, is_owner in (("anna", True), ("bo", False)):
        client = TestClient(make_app(store, access), base_url="http://127.0.0.1:8765")
        client.get(f"/enter?ticket={access.ticket(Session(rater, is_owner=is_owner))}")
        page[rater] = client.get("/owner")
    assert page["bo"].status_code == 403
    text = page["anna"].text
    assert "&lt;b&gt;one" in text and "<b>one" not in text and "secret" not in text
    assert "2 / 2" in text and "100% <span" in text and "2.0 s" in text
