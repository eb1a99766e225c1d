"""A real Chromium for tests of pages: `from browser import chromium, open_page` has the fixtures.

Without a browser these tests alone are skipped, with a line that says how to get one.
"""

import contextlib
import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
HOW = "no Chromium found: `apt-get install chromium` (Debian), or TEXTGYM_CHROMIUM=PATH"
# As root and in containers: no sandbox, and no large files in a small /dev/shm.
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")


def chromium_path():
    """The browser's path, or None."""
    return os.environ.get("TEXTGYM_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def launched():
    """A browser, closed at the end; for a script without pytest."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


# Not for the session: while it is open, asyncio.run() is refused in this thread.
@pytest.fixture(scope="module")
def chromium():
    """Playwright's `Browser`, one for a module."""
    pytest.importorskip("playwright", reason="pip install --group test (playwright)")
    if chromium_path() is None:
        pytest.skip(HOW)
    with launched() as browser:
        yield browser


@pytest.fixture
def open_page(chromium):
    """A function `(url, **options of a context)` that opens a page of its own.

    The page has `requests` (every address that it asked for), `errors` (exceptions, and errors of
    the console) and waits at most half a minute for anything.
    """
    contexts = []

    def opened(url=None, *, script=None, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(30_000)
        page = context.new_page()
        page.requests, page.errors = [], []
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda said: said.type == "error" and page.errors.append(said.text))
        if script:
            page.add_init_script(script)
        if url:
            page.goto(str(url))
        return page

    yield opened
    for context in contexts:
        context.close()
