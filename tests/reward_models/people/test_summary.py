"""The owner's figures on a small store, counted by hand."""

import numpy as np
import pytest

from textgym.reward_models.people.records import (
    Event,
    Item,
    Settings,
    Text,
    counted,
    standing,
    winner_of,
)
from textgym.reward_models.people.summary import summarize

ITEMS = [
    Item("p", (Text("x"), Text("y")), id=1),
    Item("q", (Text("x"), Text("y")), id=2),
    Item("g", (Text("x"), Text("y")), id=3, gold="second"),
    Item("r", (Text("x"),), kind="rating", id=4),
]


def event(id, item, rater, choice, *, swapped=False, repeat=False, seconds=2.0, **more):
    values = {"strength": None, "score": None, "rewrite": None, "reason": None}
    values |= {"note": "", "facts": None}
    return Event(
        id=id,
        item=item,
        showing=id,
        rater=rater,
        key=str(id),
        choice=choice,
        winner=winner_of(choice, swapped),
        is_swapped=swapped,
        is_repeat=repeat,
        shown_at=10.0,
        answered_at=10.0 + seconds,
        received_at=20.0,
        **(values | more),
    )


LOG = [
    event(1, 1, "anna", "a", seconds=1.0),  # first
    event(2, 1, "ben", "a", swapped=True, seconds=3.0),  # second
    event(3, 2, "anna", "tie", seconds=5.0),
    event(4, 2, "ben", "skip", reason="broken"),
    event(5, 3, "anna", "b"),  # gold: right
    event(6, 3, "ben", "b", swapped=True),  # gold: first, wrong
    event(7, 1, "anna", "b", swapped=True, repeat=True),  # first again
    event(8, 2, "cleo", "tie", seconds=900.0),
    event(9, 1, "cleo", "a"),  # a third answer, where two are wanted
    event(10, 4, "anna", "rate", score=2.0),
    event(11, 4, "ben", "rate", score=5.0, rewrite="better"),
    event(12, 2, "ben", "both_bad"),
    event(13, 2, "ben", None, undoes=12),
]


def test_every_figure_is_as_counted_by_hand():
    found = summarize(ITEMS, LOG, Settings(raters=2), np.random.default_rng(0))
    assert (found.items, found.finished, found.answers) == (3, 3, 6)
    assert (found.undone, found.skips, found.rewrites) == (1, 1, 1)
    assert found.choices == (1, 1, 2, 0)
    assert found.pairwise == 0.5
    # item 1: first, second; item 2: tie, tie. D_o = 2, D_e = (1·3 + 1·3 + 2·2)/3
    assert found.alpha.value == pytest.approx(1 - 2 / (10 / 3))
    assert found.rating_alpha.value == pytest.approx(0.0)
    assert (found.gold.value, found.gold.n) == (0.5, 2)
    assert (found.self_agreement.value, found.self_agreement.n) == (1.0, 1)
    assert (found.left.value, found.left.n) == (0.5, 6)
    (dispute,) = found.disputed
    assert (dispute.item.id, dispute.answers, dispute.disagreement) == (1, (1, 1, 0, 0), 1.0)


def test_raters_have_figures_of_their_own():
    found = summarize(ITEMS, LOG, Settings(raters=2), np.random.default_rng(0))
    anna, ben, cleo = found.raters
    assert [rater.name for rater in found.raters] == ["anna", "ben", "cleo"]
    assert (anna.answers, anna.skips, anna.ties, anna.gold.value) == (5, 0, 1, 1.0)
    assert (ben.answers, ben.skips, ben.gold.value, ben.self_agreement.n) == (4, 1, 0.0, 0)
    assert anna.seconds == 2.0 and ben.seconds == 2.0  # medians of 1 5 2 2 2 and 3 2 2 2
    assert cleo.seconds == 2.0  # the pause is left out


def test_the_first_answers_of_an_item_count_and_undone_ones_do_not():
    assert [event.id for event in standing(LOG)] == [*range(1, 12)]
    assert [event.id for event in counted(LOG, 2, [3])] == [1, 2, 3, 8, 10, 11]
    undone = [*LOG, event(14, 1, "ben", None, undoes=2)]
    assert [event.id for event in counted(undone, 2, [3])] == [1, 3, 8, 9, 10, 11]


def test_an_empty_store_has_no_figures():
    found = summarize([], [], Settings(), np.random.default_rng(0))
    assert np.isnan(found.alpha.value) and np.isnan(found.pairwise) and found.raters == []
