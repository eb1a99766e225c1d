"""The owner's page: the figures of the summary, for the owner alone."""

import pytest
from fastapi.testclient import TestClient

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import LabelStore

# What each says of "Film 0" (gold: the first), "Film 1", "Film 2", and the seconds it took.
SAID = {
    "anna": (("first", 2), ("first", 4), ("second", 1)),
    "bo": (("second", 3), ("second", 9), ("second", 8)),
}


@pytest.fixture
def pages(tmp_path):
    """The page as the owner sees it before and after the answers, and another rater's."""
    settings = {"raters": 2, "repeats": 0.0, "gold": 0.0, "seed": 3}
    with LabelStore(tmp_path / "labels.db", **settings) as store:
        gold = ("first", None, None)
        sides = (Text("<b>one", {"run": "secret"}), Text("two", {"run": "secret"}))
        store.add_items([NewItem(f"Film {n}", sides, gold=gold[n]) for n in range(3)])
        access = Access("t" * 43, store.settings.id)
        clients = {}
        for rater, is_owner in (("anna", True), ("bo", False)):
            client = TestClient(make_app(store, access), base_url="http://127.0.0.1:8765")
            client.get(f"/enter?ticket={access.ticket(Session(rater, is_owner=is_owner))}")
            clients[rater] = client
        before = clients["anna"].get("/owner").text
        for rater, said in SAID.items():
            for showing in store.next(rater, 3):
                winner, seconds = said[int(showing.item.prompt[-1])]
                choice = "a" if (winner == "first") != showing.is_swapped else "b"
                times = {"shown_at": 1000.0, "answered_at": 1000.0 + seconds}
                key = f"{rater} {showing.id:06}"
                store.answer(rater, Reply(showing.id, key, choice, **times))
        yield before, clients["anna"].get("/owner").text, clients["bo"].get("/owner")


def test_the_page_has_the_figures_and_names_no_run(pages):
    before, text, others = pages
    assert others.status_code == 403
    assert "0 / 2" in before and "needs items with two answers" in before
    assert "&lt;b&gt;one" in text and "<b>one" not in text and "secret" not in text
    words = " ".join(text.split())
    assert "<b>2 / 2</b>" in words and "4 answers · 0 skips · 0 undone · 0 rewrites" in words
    # Of two items one is agreed on; α = 1 − 3·2/(2·1·3) = 0: as by chance.
    assert "<b>0.00</b>" in words and "two raters say the same: 50%" in words
    rows = words.split("<tbody>")[1].split("</tr>")
    assert "<bdi>anna</bdi>" in rows[0] and "2.0 s" in rows[0] and "100% <span" in rows[0]
    assert '<td class="number low">1</td>' in rows[0] and '<td class="number">0</td>' in rows[1]
    assert "8.0 s" in rows[1] and "0% <span" in rows[1]
    assert words.count("<details") == 1 and "first 1 · second 1 · tie 0 · both bad 0" in words
