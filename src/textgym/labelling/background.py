"""The labelling page beside something else that goes on, such as a training in the same process."""

import contextlib
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass

from textgym.errors import InputError
from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.labelling.guard import ENTRANCE
from textgym.labelling.serving import listen, uvicorn_config
from textgym.reward_models.people.client import address_path
from textgym.reward_models.people.store import LabelStore
from textgym.storage import write_json_atomically

HOST = "127.0.0.1"
SECONDS = 60.0  # for the server to start on a machine with other work


@dataclass(frozen=True)
class ServedPage:
    """A page that is served.

    :param url: of the server.
    :param access: gives tickets, each of which opens the page once.
    """

    url: str
    access: Access

    def address(self, rater: str) -> str:
        """A new address for the owner under this name; it opens once."""
        return f"{self.url}{ENTRANCE}?ticket={self.access.ticket(Session(rater, True))}"


@contextlib.contextmanager
def page_beside(store: LabelStore, token: str, *, port: int = 0) -> Iterator[ServedPage]:
    """Serve an open store on this machine alone, in a thread, until the block is left.

    Whoever opens the store by its path meanwhile goes through this server.

    :param token: of the store.
    :param port: 0 takes a free one.
    :raises InputError: if it cannot listen there.
    """
    import uvicorn

    access = Access(token, store.settings.id)
    listener = listen(HOST, port)
    url = f"http://{HOST}:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn_config(make_app(store, access)))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        end = time.monotonic() + SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > end:
                raise InputError(f"the labelling page could not be served on {url}")
            time.sleep(0.01)
        write_json_atomically(address_path(store.path), {"url": url, "pid": os.getpid()})
        yield ServedPage(url, access)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
        address_path(store.path).unlink(missing_ok=True)


def open_in_browser(address: str) -> bool:
    """Open an address in the browser of a desktop; False where there is none.

    A browser of the terminal is none: it would take the terminal away from what runs in it.
    """
    has_desktop = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    if not has_desktop:
        return False
    try:
        return webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return False
