"""Schemathesis on the label server: requests made from the schema of its own routes (R41).

TEXTGYM_OPENAPI_CASES is how many requests each route gets, from the owner and from a rater.
"""

import os

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from label_server import TOKEN, running_server

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.store import LabelStore

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.specs.openapi.checks import response_schema_conformance  # noqa: E402

CASES = int(os.environ.get("TEXTGYM_OPENAPI_CASES", "2"))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with LabelStore(tmp_path_factory.mktemp("openapi") / "labels.db") as store:
        store.add_items([NewItem(f"{i}", (Text("x"), Text("y")), key=f"{i}") for i in range(5)])
        yield store


@pytest.fixture(scope="module")
def served(store):
    with running_server(store) as server:
        yield server


@settings(
    max_examples=1, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
@given(data=st.data())
def test_every_reply_is_as_the_schema_says_or_an_error_in_one_line(data, store, served):
    """Each route is asked by the owner and by a rater; none is an internal error."""
    app = make_app(store, Access(TOKEN, store.settings.id)).app
    schema = schemathesis.openapi.from_dict(app.openapi())
    routes = [found.ok() for found in schema.get_all_operations()]
    assert len(routes) > 10
    access = served.access
    rater = f"{access.cookie_name}={access.cookie(Session('anna', False))}"
    for route in routes:
        for _ in range(CASES):
            case = data.draw(route.as_strategy())
            for who in ({"authorization": f"Bearer {TOKEN}"}, {"cookie": rater}):
                reply = case.call(base_url=served.url, headers=who, allow_redirects=False)
                assert reply.status_code < 500, reply.text
                if reply.status_code == 200:
                    case.validate_response(reply, checks=[response_schema_conformance])
                elif reply.status_code >= 400:
                    assert list(reply.json()) == ["error"]
                    assert reply.json()["error"] and "\n" not in reply.json()["error"]
