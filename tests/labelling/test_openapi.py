"""Schemathesis on the label server: requests made from the schema of its own routes (R41).

TEXTGYM_OPENAPI_CASES is how many requests each route gets, from the owner and from a rater.
"""

import os

import pytest
from hypothesis import HealthCheck, settings
from label_server import TOKEN, running_server

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.store import LabelStore

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.specs.openapi.checks import response_schema_conformance  # noqa: E402


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with LabelStore(tmp_path_factory.mktemp("openapi") / "labels.db") as store:
        store.add_items([NewItem(f"{i}", (Text("x"), Text("y")), key=f"{i}") for i in range(5)])
        yield store


@pytest.fixture(scope="module")
def served(store):
    with running_server(store) as server:
        yield server


@pytest.fixture(scope="module")
def api(store):
    return schemathesis.openapi.from_dict(
        make_app(store, Access(TOKEN, store.settings.id)).app.openapi()
    )


schema = schemathesis.pytest.from_fixture("api")


@schema.parametrize()
@settings(
    max_examples=int(os.environ.get("TEXTGYM_OPENAPI_CASES", "3")),
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_every_reply_is_as_the_schema_says_or_an_error_in_one_line(case, served):
    access = served.access
    rater = f"{access.cookie_name}={access.cookie(Session('anna', False))}"
    for who in ({"authorization": f"Bearer {TOKEN}"}, {"cookie": rater}):
        reply = case.call(base_url=served.url, headers=who, allow_redirects=False)
        assert reply.status_code < 500, reply.text
        if reply.status_code == 200:
            case.validate_response(reply, checks=[response_schema_conformance])
        elif reply.status_code >= 400:
            (error,) = reply.json().values()
            assert list(reply.json()) == ["error"] and error and "\n" not in error
