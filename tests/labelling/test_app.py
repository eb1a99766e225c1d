"""The label server's routes over a real store."""

import pytest
from fastapi.testclient import TestClient

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.store import LabelStore

TOKEN = "t" * 43


@pytest.fixture
def store(tmp_path):
    with LabelStore(tmp_path / "labels.db", raters=2, repeats=0.0, seed=1) as store:
        store.add_items(
            [
                NewItem(
                    f"Film {n}: ", (Text(f"good {n}", {"step": 100}), Text(f"bad {n}", {"step": 0}))
                )
                for n in range(3)
            ]
        )
        yield store


@pytest.fixture
def access(store):
    return Access(TOKEN, store.settings.id)


@pytest.fixture
def browser(store, access):
    """A rater's browser, after it opened the address with its ticket."""
    client = TestClient(make_app(store, access), base_url="http://127.0.0.1:8765")
    ticket = access.ticket(Session("anna", is_owner=False))
    assert client.get(f"/enter?ticket={ticket}").status_code == 200
    assert client.get(f"/enter?ticket={ticket}").status_code == 401
    return client


def test_an_answer_is_stored_in_the_order_of_the_texts(store, browser):
    reply = browser.post("/api/next", json={}).json()
    (showing,) = reply["showings"]
    assert reply["progress"] == {"answered": 0, "left": 3, "today": 0}
    side = "a" if showing["a"]["text"].startswith("good") else "b"
    body = {"showing": showing["showing"], "key": "k" * 8, "choice": side, "strength": 2}
    reply = browser.post("/api/answer", json=body)
    assert reply.status_code == 200
    assert reply.json()["progress"] == {"answered": 1, "left": 2, "today": 1}
    assert browser.post("/api/answer", json=body).json()["answer"] == reply.json()["answer"]
    (event,) = store.events()
    assert (event.rater, event.winner, event.strength) == ("anna", "first", 2)
    assert browser.post("/api/answer", json=body | {"key": "l" * 8}).status_code == 409
    assert browser.post("/api/answer", json=body | {"choice": "tie"}).status_code == 409


def test_an_undo_opens_the_showing_again(store, browser):
    (showing,) = browser.post("/api/next", json={}).json()["showings"]
    body = {"showing": showing["showing"], "key": "k" * 8, "choice": "tie"}
    browser.post("/api/answer", json=body)
    assert browser.get("/api/history").json()["answers"][0]["choice"] == "tie"
    undone = browser.post("/api/undo", json={"key": "u" * 8}).json()
    assert undone["showing"]["a"] == showing["a"]
    assert browser.get("/api/history").json()["answers"] == []
    (again,) = browser.post("/api/next", json={}).json()["showings"]
    assert again["showing"] == showing["showing"]
    assert [event.undoes for event in store.events()] == [None, 1]


def test_a_rater_learns_nothing_that_must_be_hidden(browser):
    text = browser.post("/api/next", json={"count": 3}).text
    assert not {"source", "step", "gold", "repeat", "item"} & set(text.replace('"', " ").split())


def test_a_training_process_adds_items_and_reads_answers(store, access):
    client = TestClient(make_app(store, access), base_url="http://127.0.0.1:8765")
    client.headers["authorization"] = f"Bearer {TOKEN}"
    item = {"prompt": "p", "texts": [{"text": "x", "source": {"run": "r"}}, {"text": "y"}]}
    assert client.post("/api/items", json={"items": [item | {"key": "1"}] * 2}).json() == {
        "ids": [4, 4]
    }
    (added,) = client.get("/api/items?since=3").json()["items"]
    assert added["texts"][0]["source"] == {"run": "r"}
    assert client.get("/api/events").json() == {"events": []}
    assert client.post("/api/next", json={}).status_code == 403
