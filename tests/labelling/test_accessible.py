"""axe finds no violation on any page, in light and in dark (WCAG 2.2 AA and its best practices)."""

import contextlib

import pytest
from browser import chromium, open_page  # noqa: F401
from label_server import running_server

from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import LabelStore

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

PAIR = (Text("good"), Text("bad", is_cut=True))
ITEMS = [
    NewItem("p", (Text("t"),), "rating", priority=2),
    NewItem("p", (Text("t"),), "edit", priority=1),
    *(NewItem(f"Film {n}", PAIR, lang="en") for n in range(4)),
]


@pytest.fixture
def check(open_page, tmp_path):  # noqa: F811
    """Opens the page, and a function that checks what it shows now."""
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(
            LabelStore(
                tmp_path / "labels.db",
                raters=2,
                guidelines="Read both.",
                asks=("strength", "facts", "rewrite"),
                repeats=0.0,
            )
        )
        store.add_items(ITEMS)
        server = stack.enter_context(running_server(store))
        page = open_page(server.address("anna", is_owner=True), reduced_motion="reduce")

        def checked(name):
            for scheme, options in (
                ("light", {}),
                ("dark", {"runOnly": {"type": "rule", "values": ["color-contrast"]}}),
            ):
                page.emulate_media(color_scheme=scheme)
                found = Axe().run(page, options=options).response["violations"]
                said = [(each["id"], [n["html"] for n in each["nodes"]][:3]) for each in found]
                assert said == [], f"{name}, {scheme}"
            page.emulate_media(color_scheme="light")

        yield page, store, checked
        assert page.errors == []


def press(page, key):
    page.wait_for_timeout(400)
    page.keyboard.press(key)


def test_no_page_has_a_violation(check):
    page, store, checked = check
    checked("entrance")
    page.click("a.button")
    page.wait_for_selector("html[data-ready]")
    checked("rating")
    press(page, "3")
    checked("edit")
    press(page, "Control+Enter")
    page.keyboard.press("n")
    page.keyboard.press("Escape")
    checked("pair")
    for key, dialog in (("s", "skip"), ("h", "history"), ("?", "settings")):
        page.keyboard.press(key)
        page.wait_for_selector(f"#{dialog}-dialog[open]")
        checked(dialog)
        page.keyboard.press("Escape")
    press(page, "ArrowLeft")
    page.keyboard.press("u")
    page.check("#rewrite-too input")
    page.focus("#choices .a")
    press(page, "ArrowRight")
    checked("again, rewriting")
    for number in range(6):
        for showing in store.next("bo", 6):
            kind = showing.item.kind
            choice = {"pair": "b", "rating": "rate", "edit": "edit"}[kind]
            score, rewrite = (5.0 if kind == "rating" else None), ("x" if kind == "edit" else None)
            key = f"key {number} {showing.id:05}"
            store.answer("bo", Reply(showing.id, key, choice, score=score, rewrite=rewrite))
    page.goto(page.url + "owner")
    page.wait_for_selector(".disputed summary")
    page.locator(".disputed summary").first.click()
    checked("owner")
