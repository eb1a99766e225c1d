"""axe finds no violation on any page, in light and in dark (WCAG 2.2 AA and its best practices)."""

import contextlib

import pytest
from browser import chromium, open_page  # noqa: F401
from label_server import press, running_server

from textgym.reward_models.people.records import NewItem, Reply, Text
from textgym.reward_models.people.store import LabelStore

Axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe

# The rule and the elements of each violation. Only contrast can differ in the dark.
VIOLATIONS = """async (rules) => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"], ...rules })
  return violations.map(({ id, nodes }) => [id, ...nodes.map(({ html }) => html).slice(0, 3)])
}"""
CONTRAST = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
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
            if not page.evaluate("'axe' in window"):
                page.evaluate(Axe().axe_script)
            for scheme, rules in (("light", {}), ("dark", CONTRAST)):
                page.emulate_media(color_scheme=scheme)
                assert page.evaluate(VIOLATIONS, rules) == [], f"{name}, {scheme}"
            page.emulate_media(color_scheme="light")

        yield page, store, checked
        assert page.errors == []


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
        press(page, key)
        page.wait_for_selector(f"#{dialog}-dialog[open]")
        checked(dialog)
        page.keyboard.press("Escape")
    press(page, "ArrowLeft")
    page.keyboard.press("u")
    page.check("#rewrite-too input")
    page.focus("#choices .a")
    press(page, "ArrowRight")
    checked("again, rewriting")
    press(page, "Control+Enter")
    page.wait_for_selector("#saved[data-state=saved]")
    for showing in store.next("bo", 6):
        if showing.item.kind == "pair":
            store.answer("bo", Reply(showing.id, f"key {showing.id:05}", "both_bad"))
    page.goto(page.url + "owner")
    page.wait_for_selector(".disputed summary")
    page.locator(".disputed summary").first.click()
    checked("owner")
