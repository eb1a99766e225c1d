"""A store by its path and by its server's URL: the same methods, the same records."""

import threading

import pytest
from label_server import TOKEN, running_server

from textgym.errors import InputError, StorageError
from textgym.reward_models.people.client import LabelClient, address_path, open_labels
from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import ConflictError, LabelStore
from textgym.reward_models.people.token_file import read_or_make_token
from textgym.storage import write_json_atomically

PAIRS = [
    NewItem(
        f"Film {n} 電影\r\n",
        (Text("good\0", {"run": "r", "step": n}), Text("bad", is_cut=True)),
        key=f"key {n}",
        priority=0.5,
        query="random",
        lang="zh-Hant",
    )
    for n in range(3)
]


@pytest.fixture
def store(tmp_path):
    with LabelStore(tmp_path / "labels.db", repeats=0.0) as store:
        yield store


def answer(store, rater="anna"):
    (showing,) = store.next(rater)
    key = f"{rater} {showing.id}"
    return store.answer(rater, Reply(showing.id, key=key, choice="a", shown_at=1.25))


def test_over_http_a_store_says_what_it_says_itself(store):
    with running_server(store) as server:
        labels = open_labels(server.url, token=TOKEN)
        assert labels.settings == store.settings
        assert labels.add_items(PAIRS) == labels.add_items(PAIRS) == [1, 2, 3]
        assert labels.items() == store.items()
        assert labels.items(since=2)[0].texts == PAIRS[2].texts
        for _ in range(2):
            answer(store)
        store.undo("anna", "undo it")
        assert labels.events() == store.events()
        assert labels.events(since=1, limit=1) == store.events()[1:2]
        labels.close_items([1])
        assert [item.is_open for item in store.items()] == [False, True, True]
        assert labels.add_refit("run", 5, [1, 2], {"accuracy": 0.5}) == 1
        assert labels.refits("run") == store.refits() and labels.refits("other") == []
        with pytest.raises(ConflictError, match="has another refit"):
            labels.add_refit("run", 5, [1])
        labels.close()


def test_more_rows_than_a_request_holds_come_all(store, monkeypatch):
    for module in ("client", "items_as_json"):  # asked for, sent
        monkeypatch.setattr(f"textgym.reward_models.people.{module}.PAGE", 2)
    with running_server(store) as server:
        labels = open_labels(server.url, token=TOKEN)
        assert labels.add_items(PAIRS) == [1, 2, 3]
        assert labels.items() == store.items()
        assert labels.items(limit=3) == store.items()
        labels.close()


def test_a_wrong_token_and_a_wrong_place_are_said(store, monkeypatch):
    monkeypatch.delenv("TEXTGYM_LABEL_TOKEN", raising=False)
    with pytest.raises(InputError, match="TEXTGYM_LABEL_TOKEN"):
        open_labels("http://127.0.0.1:1")
    with running_server(store) as server:
        labels = LabelClient(server.url, "x" * 43, patience=0)
        with pytest.raises(InputError, match="refuses the token"):
            labels.events()
        labels.close()
    labels = LabelClient(server.url, TOKEN, patience=0.1)
    with pytest.raises(StorageError, match="cannot be reached"):
        labels.events()
    labels.close()


def test_a_call_waits_for_a_server_that_is_started_anew(store):
    with running_server(store) as server:
        port = int(server.url.rpartition(":")[2])
    labels = LabelClient(server.url, TOKEN, patience=30)
    found = []
    thread = threading.Thread(target=lambda: found.extend(labels.add_items(PAIRS)))
    thread.start()
    with running_server(store, port=port):
        thread.join()
    assert found == [1, 2, 3]
    labels.close()


def test_a_path_is_opened_or_reached_through_its_server(tmp_path):
    path = tmp_path / "labels.db"
    labels = open_labels(path, raters=2, patience=5)
    assert labels.settings.raters == 2
    assert labels.add_items(PAIRS[:1]) == [1]
    with LabelStore(path) as store:  # a server holds it from here on
        token = read_or_make_token(path)
        with running_server(store, token) as server:
            write_json_atomically(address_path(path), {"url": server.url})
            assert labels.add_items(PAIRS) == [1, 2, 3]
            event = answer(store)
            assert labels.events() == [event]
    assert labels.add_refit("run", 1, [1]) == 1
    assert [item.key for item in labels.items()] == ["key 0", "key 1", "key 2"]
