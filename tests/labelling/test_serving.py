"""What the server prints, where it listens, and who reaches it."""

import json
import socket
import stat

import pytest
import uvicorn
from fastapi.testclient import TestClient

from textgym.errors import InputError
from textgym.labelling.serving import check_host, serve
from textgym.reward_models.people.client import address_path, served_at
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.people.token_file import read_or_make_token, read_token, token_path


@pytest.fixture
def store(tmp_path):
    with LabelStore(tmp_path / "labels.db") as store:
        yield store


def test_everybody_gets_an_address_that_opens_once_and_the_token_is_not_shown(
    store, monkeypatch, capsys
):
    seen = {}

    def run(server, sockets):
        seen.update(app=server.config.app, name=sockets[0].getsockname())
        seen["served"] = json.loads(address_path(store.path).read_text())["url"]
        raise KeyboardInterrupt

    monkeypatch.setattr(uvicorn.Server, "run", run)
    token = read_or_make_token(store.path)
    serve(store, token, host="127.0.0.1", port=0, owner="me", raters=["anna"])
    said = capsys.readouterr().out
    assert token not in said and str(token_path(store.path)) in said
    assert seen["name"][0] == "127.0.0.1"
    assert seen["served"] == f"http://127.0.0.1:{seen['name'][1]}"
    assert served_at(store.path) is None  # the note goes with the server
    addresses = dict(line.split(": ") for line in said.splitlines() if "ticket=" in line)
    assert [name.strip() for name in addresses] == ["me", "anna"]
    for name, is_owner in (("  me", True), ("  anna", False)):
        client = TestClient(seen["app"], base_url=seen["served"])
        assert client.get(addresses[name]).status_code == 200
        assert client.get("/api/session").json()["is_owner"] is is_owner
        assert client.get("/owner").status_code == (200 if is_owner else 403)
        assert (
            TestClient(seen["app"], base_url=seen["served"]).get(addresses[name]).status_code == 401
        )


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(store, monkeypatch, capsys):
    monkeypatch.setattr(uvicorn.Server, "run", lambda server, sockets: seen.append(server))
    seen = []
    serve(store, "t" * 43, host="127.0.0.1", port=0, owner="me")
    address = next(w for w in capsys.readouterr().out.split() if "ticket=" in w)
    reply = TestClient(seen[0].config.app, base_url="http://localhost").get(address)
    cookie = reply.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert seen[0].config.access_log is False


def test_a_port_in_use_is_said(store):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on port {port}"):
            serve(store, "t" * 43, host="127.0.0.1", port=port, owner="me")


def test_only_this_machine_unless_told_otherwise():
    for host in ("127.0.0.1", "::1", "localhost"):
        check_host(host, False)
    for host in ("0.0.0.0", "::", "192.168.0.7", "example.org"):
        with pytest.raises(InputError, match="ssh -L"):
            check_host(host, False)
        check_host(host, True)


def test_a_token_is_kept_and_is_its_owners_alone(store):
    token = read_or_make_token(store.path)
    path = token_path(store.path)
    assert read_or_make_token(store.path) == read_token(store.path) == token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and len(token) == 43
    assert read_or_make_token(store.path, is_new=True) != token
    path.chmod(0o644)
    with pytest.raises(InputError, match="others can read it: chmod 600"):
        read_or_make_token(store.path)
    path.chmod(0o600)
    path.write_text("short\n")
    with pytest.raises(InputError, match="holds no token: make one with --new-token"):
        read_token(store.path)
