"""The page beside something else: served while a block runs, and opened in a browser."""

import contextlib
import socket
import urllib.error
import urllib.request

import pytest
from label_server import TOKEN

from textgym.errors import InputError
from textgym.labelling import background
from textgym.labelling.background import open_in_browser, page_beside
from textgym.reward_models.people.client import open_labels, served_at
from textgym.reward_models.people.records import NewItem, Text
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.people.token_file import read_or_make_token


def test_it_is_served_and_others_reach_the_store_by_its_path_until_the_block_ends(tmp_path):
    path = tmp_path / "labels.db"
    with LabelStore(path) as store:
        with page_beside(store, read_or_make_token(path)) as page:
            assert served_at(path) == page.url
            first, second = page.address("you"), page.address("you")
            assert first != second and first.startswith(f"{page.url}/enter?ticket=")
            with urllib.request.urlopen(first) as reply:
                assert reply.status == 200
            with (
                pytest.raises(urllib.error.HTTPError, match="401"),
                contextlib.closing(urllib.request.urlopen(first)),
            ):
                pass
            labels = open_labels(path, patience=10.0)
            assert labels.add_items([NewItem("p ", (Text("a"), Text("b")))]) == [1]
        assert len(store.items()) == 1 and served_at(path) is None


def test_a_port_in_use_is_one_line(tmp_path):
    with LabelStore(tmp_path / "labels.db") as store, socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"cannot listen on port {port} of '127.0.0.1'"),
            page_beside(store, TOKEN, port=port),
        ):
            pass


@pytest.mark.parametrize(
    ("display", "works", "expected"), [("", True, False), (":0", True, True), (":0", False, False)]
)
def test_a_browser_is_opened_on_a_desktop_only(monkeypatch, display, works, expected):
    asked = []
    monkeypatch.setattr(background.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", display)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)

    def opened(address):
        asked.append(address)
        if not works:
            raise background.webbrowser.Error("none")
        return True

    monkeypatch.setattr(background.webbrowser, "open", opened)
    assert open_in_browser("http://127.0.0.1:1/") is expected
    assert asked == (["http://127.0.0.1:1/"] if display else [])
