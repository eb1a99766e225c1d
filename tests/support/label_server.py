"""A real label server in a thread of the test."""

import contextlib
import threading
import time

import uvicorn

from textgym.labelling.access import Access, Session
from textgym.labelling.app import make_app
from textgym.labelling.serving import uvicorn_config

TOKEN = "t" * 43


class RunningServer:
    """The URL and the access of a server that runs."""

    def __init__(self, url, access):
        self.url, self.access = url, access

    def address(self, rater, *, is_owner=False):
        """An address that signs a browser in, once."""
        return f"{self.url}/enter?ticket={self.access.ticket(Session(rater, is_owner))}"


@contextlib.contextmanager
def running_server(store, token=TOKEN, port=0):
    """Serve an open store on a port of the loopback (0: a free one) until the block ends."""
    access = Access(token, store.settings.id)
    server = uvicorn.Server(uvicorn_config(make_app(store, access), port=port))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield RunningServer(f"http://127.0.0.1:{port}", access)
    finally:
        server.should_exit = True
        thread.join()


def press(page, key):
    """A key, once the question has been there for as long as an answer needs."""
    wait(page)
    page.keyboard.press(key)


def wait(page):
    """Until the question on the page may be answered."""
    page.evaluate(
        """async () => {
          const { dataset } = document.documentElement
          while (!dataset.painted || performance.now() < +dataset.painted + 301)
            await new Promise((done) => setTimeout(done, 10))
        }"""
    )
