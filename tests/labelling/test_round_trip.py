"""Any text comes out of the store and the routes as it went in."""

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from label_server import TOKEN

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.reward_models.people.store import LabelStore

HARD = "e\u0301 é \u202e\u2066rtl\u2069 \r\n\r 👩‍👩‍👧 \0 𐍈 \u2028 \ufeff </script> {{ 7 }} 漢字 "


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    with LabelStore(tmp_path_factory.mktemp("trip") / "labels.db", repeats=0.0) as store:
        access = Access(TOKEN, store.settings.id)
        app = make_app(store, access)
        trainer = TestClient(app, base_url="http://localhost")
        trainer.headers["authorization"] = f"Bearer {TOKEN}"
        rater = TestClient(app, base_url="http://localhost")
        rater.cookies.set(access.cookie_name, access.cookie(Session("anna", False)))
        yield store, trainer, rater


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text(), st.text(), st.text(), st.text())
@example(HARD, HARD, HARD + ".", HARD)
@example("", "", " ", "")
def test_texts_round_trip(clients, prompt, one, other, rewrite):
    store, trainer, rater = clients
    kind = "rating" if one == other else "pair"
    texts = [{"text": one}, {"text": other}][: 1 if kind == "rating" else 2]
    (item,) = trainer.post(
        "/api/items", json={"items": [{"prompt": prompt, "texts": texts, "kind": kind}]}
    ).json()["ids"]
    (showing,) = rater.post("/api/next", json={}).json()["showings"]
    sides = [side["text"] for side in (showing["a"], showing["b"]) if side]
    assert showing["prompt"] == prompt and sorted(sides) == sorted({one, other})
    body = {"showing": showing["showing"], "key": f"key {item:08}", "note": rewrite}
    body |= {"choice": "rate", "score": 3.0} if kind == "rating" else {"choice": "a"}
    assert rater.post("/api/answer", json=body | {"rewrite": rewrite}).status_code == 200
    (event,) = trainer.get("/api/events", params={"since": item - 1}).json()["events"]
    assert (event["rewrite"], event["note"]) == (rewrite, rewrite)
    (stored,) = store.items(since=item - 1)
    assert [text.text for text in stored.texts] == ([one] if kind == "rating" else [one, other])
    assert rater.get("/api/history?limit=1").json()["answers"][0]["rewrite"] == rewrite
