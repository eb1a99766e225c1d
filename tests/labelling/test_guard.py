"""Every route × every method is refused to whoever it is not for; the table is the app's own."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_server import TOKEN

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.labelling.guard import BODY_BYTES, HEADERS, OWNER_BODY_BYTES
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.store import LabelStore

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW")
HOST = "127.0.0.1:8765"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with LabelStore(tmp_path_factory.mktemp("guard") / "labels.db") as store:
        store.add_items([NewItem("p", (Text("x"), Text("y")))])
        yield store


@pytest.fixture(scope="module")
def access(store):
    return Access(TOKEN, store.settings.id)


@pytest.fixture(scope="module")
def app(store, access):
    return make_app(store, access)


@pytest.fixture(scope="module")
def owner(access):
    """Headers that a request of the owner's page has."""
    cookie = f"{access.cookie_name}={access.cookie(Session('owner', True))}"
    return {"host": HOST, "cookie": cookie, "content-type": "application/json"}


def ask(app, method, path, headers, body=b"{}", query=b""):
    """Status, headers and body of the reply to a request, which goes through no client."""
    sent, parts = [], [body] if isinstance(body, bytes) else list(body)
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8765),
    }

    async def receive():
        if not parts:
            return {"type": "http.disconnect"}
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    content = b"".join(message.get("body", b"") for message in sent)
    replied = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], replied, content


def routes(app):
    """Every path of the application, those of mounted files too."""
    paths = {route.path for route in app.app.routes}
    return sorted(path if path != "/static" else "/static/label.js" for path in paths)


def test_the_table_has_all_routes(app):
    assert {"/", "/owner", "/enter", "/api/answer", "/api/events", "/static/label.js"} <= set(
        routes(app)
    )
    assert len(routes(app)) >= 17


def refused(app, headers, expected, *, but=()):
    """Ask for every route and a path that is none, by every method."""
    for path in [*routes(app), "/none"]:
        for method in METHODS:
            status, replied, content = ask(app, method, path, headers)
            wanted = expected if path not in but else (expected, 405)
            assert status in (wanted if isinstance(wanted, tuple) else (wanted,)), (method, path)
            assert not [name for name in replied if name.startswith("access-control")]
            assert "set-cookie" not in replied
            assert HEADERS.items() <= replied.items()
            assert TOKEN.encode() not in content


def test_without_the_token(app, owner):
    headers = {name: value for name, value in owner.items() if name != "cookie"}
    refused(app, headers, 401, but=("/enter",))


@pytest.mark.parametrize(
    "wrong",
    [
        {"cookie": "textgym_label_x=owner.YW5uYQ.00"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": "Bearer ÿé"},
    ],
)
def test_with_a_wrong_token(app, owner, wrong):
    headers = {name: value for name, value in owner.items() if name != "cookie"}
    assert ask(app, "GET", "/api/events", headers | wrong)[0] == 401


def test_a_forged_cookie_is_worth_nothing(app, access, owner):
    name, _, value = owner["cookie"].partition("=")
    rater = access.cookie(Session("anna", False))
    for forged in (
        rater.replace("rater.", "owner.", 1),
        value[:-1] + ("0" if value[-1] != "0" else "1"),
        Access("u" * 43, "x").cookie(Session("owner", True)),
        "..",
        "owner..",
        '"\\377"',
    ):
        headers = owner | {"cookie": f"{name}={forged}"}
        assert ask(app, "GET", "/api/events", headers)[0] == 401
    assert ask(app, "GET", "/api/events", owner | {"cookie": f"{name}={rater}"})[0] == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", ""]
)
def test_from_a_foreign_host(app, owner, host):
    refused(app, owner | {"host": host}, 421)


@pytest.mark.parametrize(
    "foreign",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_from_a_foreign_origin(app, owner, foreign):
    refused(app, owner | foreign, 403)
    refused(app, owner | foreign | {"authorization": f"Bearer {TOKEN}"}, 403)


def test_what_is_ours_is_let_through(app, owner):
    """Or else the tables above would show nothing."""
    for path in set(routes(app)) - {"/enter"}:
        statuses = {method: ask(app, method, path, owner)[0] for method in METHODS}
        assert {200, 422} & set(statuses.values()), (path, statuses)
        assert not {401, 403, 421, 500} & set(statuses.values()), (path, statuses)
    own = owner | {"origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
    assert ask(app, "POST", "/api/next", own)[0] == 200
    assert (
        ask(app, "GET", "/", own | {"host": "localhost"} | {"origin": "http://localhost"})[0] == 200
    )


def test_raters_see_nothing_of_the_owners(app, access, owner):
    cookie = f"{access.cookie_name}={access.cookie(Session('anna', False))}"
    for path in routes(app):
        is_raters = path.startswith(("/static", "/api/")) or path in ("/", "/enter")
        statuses = {ask(app, method, path, owner | {"cookie": cookie})[0] for method in METHODS}
        if not is_raters or path.startswith(("/api/owner", "/api/items", "/api/events")):
            assert 403 in statuses and not {200, 422} & statuses, path


def test_a_body_is_json_and_short(app, owner, access):
    cookie = f"{access.cookie_name}={access.cookie(Session('anna', False))}"
    rater = owner | {"cookie": cookie}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        assert ask(app, "POST", "/api/next", rater | {"content-type": kind})[0] == 415
    parts = [b" " * 1000] * (BODY_BYTES // 1000 + 2)
    lying = rater | {"content-length": "2"}
    assert ask(app, "POST", "/api/next", lying, parts)[0] == 413
    assert ask(app, "POST", "/api/next", rater, b" " * (BODY_BYTES - 2) + b"{}")[0] == 200
    assert OWNER_BODY_BYTES > BODY_BYTES


BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "showing",
        "key",
        "choice",
        "items",
        "ids",
        "prompt",
        "texts",
        "count",
        "held",
        "rater",
        "step",
    ]
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=BODIES | st.dictionaries(FIELDS, BODIES, max_size=6))
def test_no_body_is_an_internal_error(app, owner, body):
    for route in app.app.routes:
        if "POST" in (getattr(route, "methods", None) or ()):
            status, _, content = ask(app, "POST", route.path, owner, json.dumps(body).encode())
            assert status in (200, 409, 422), (route.path, content)
            assert status == 200 or set(json.loads(content)) == {"error"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 60_000,
        b'{"rater": "\\ud800"}',
        b'{"rater": NaN}',
        b'{"rater": "' + b"x" * 101 + b'"}',
    ],
)
def test_what_is_no_body_is_said_in_one_line(app, owner, body):
    status, _, content = ask(app, "POST", "/api/owner/invitations", owner, body)
    assert status in (400, 422) and "\n" not in json.loads(content)["error"]
