"""The labelling page in a real Chromium over a real server: what a rater sees and can do."""

import contextlib
import re
from types import SimpleNamespace

import pytest
from browser import chromium, open_page  # noqa: F401
from label_server import press, running_server, wait

from textgym.reward_models.people.records import NewItem, Reply, Text, standing
from textgym.reward_models.people.store import LabelStore

SECRET = "ppo-crowd-seed-3"
NASTY = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>&amp;&lt;b>",
    "line\r\nline\rline\n\ttab  two  spaces ",
    "e\u0301 é ﬁ Å Å",
    "\U0001f469\u200d\U0001f4bb \U0001f1e9\U0001f1ea \U00020bb7野家",
    "\u202eabc\u202c \u2067def\u2069 \u200b\ufeff\u00a0\u00ad",
    "\x00\x01\x1b[31m\x7f\x9b",
    "{{ 7 * 7 }} ${1} </textarea></pre>\u2028\u2029",
]


def pairs(count, lang=""):
    return [
        NewItem(
            f"Film {n}: ",
            (Text(f"good {n}", {"run": SECRET}), Text(f"bad {n}", {"run": SECRET})),
            lang=lang,
        )
        for n in range(count)
    ]


@pytest.fixture
def labelling(open_page, tmp_path):  # noqa: F811
    """Serves items and opens the page for a rater; at the end nothing may have gone wrong on it."""
    opened = []

    def start(items, *, rater="anna", offline_errors=False, context=None, before=None, **settings):
        settings = {"raters": 2, "repeats": 0.0, "gold": 0.0, "seed": 1} | settings
        store = stack.enter_context(LabelStore(tmp_path / "labels.db", **settings))
        store.add_items(items)
        if before:
            before(store)
        running = stack.enter_context(contextlib.ExitStack())
        server = running.enter_context(running_server(store))
        page = open_page(**(context or {}))
        page.goto(server.address(rater))
        begin(page)
        opened.append((page, server.url, offline_errors))

        def start_again():
            running.enter_context(running_server(store, port=int(server.url.split(":")[-1])))

        return SimpleNamespace(
            page=page, store=store, server=server, stop=running.close, start=start_again
        )

    with contextlib.ExitStack() as stack:
        yield start
        for page, url, offline_errors in opened:
            assert offline_errors or page.errors == []
            assert [r for r in page.requests if not r.startswith((url, "about:"))] == []


def begin(page):
    """From the page that a ticket opens to the first question."""
    page.click("a.button")
    page.wait_for_selector("html[data-ready]")


def saved(page):
    page.wait_for_selector("#saved[data-state=saved]")


def answers(store):
    return standing(store.events())


def side_of(page, start):
    """The side whose text begins so: the arrow that chooses it."""
    is_left = page.inner_text("#text-a").startswith(start)
    return "ArrowLeft" if is_left else "ArrowRight"


def test_a_run_with_the_keyboard_alone(labelling):
    run = labelling(pairs(9), guidelines="Read both.")
    page = run.page
    assert page.inner_text("#guidelines .text") == "Read both."
    press(page, side_of(page, "good"))
    press(page, {"ArrowLeft": "1", "ArrowRight": "2"}[side_of(page, "bad")])
    press(page, "ArrowDown")
    press(page, "9")
    press(page, "s")
    page.keyboard.press("2")
    wait(page)
    page.keyboard.press("n")
    page.keyboard.type("2 s u: keys in a note are letters")
    page.keyboard.press("Escape")
    page.keyboard.press(side_of(page, "good"))
    press(page, "0")
    page.keyboard.press("Control+z")
    page.wait_for_selector("#again:not([hidden])")
    assert "Taken back: Equally good" in page.inner_text("#again")
    press(page, side_of(page, "bad"))
    saved(page)
    said = answers(run.store)
    assert [event.winner or event.reason for event in said] == [
        "first", "second", "tie", "both_bad", "wrong_language", "first", "second",
    ]  # fmt: skip
    assert said[5].note == "2 s u: keys in a note are letters"
    assert len(run.store.events()) == 9 and len({event.item for event in said}) == 7
    assert all(0.3 < event.answered_at - event.shown_at < 60 for event in said)
    assert page.inner_text("#progress-text").startswith("7 of 9 · 7 today · ")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.matches(':focus-visible')")


def test_one_answer_from_a_double_click_a_held_key_and_a_key_of_the_last_question(labelling):
    run = labelling(pairs(6))
    page = run.page
    wait(page)
    page.dblclick("#choices .a")
    saved(page)
    assert len(answers(run.store)) == 1
    assert "not counted" in page.inner_text("#said")
    wait(page)
    for _ in range(8):  # held: all but the first are repeats
        page.keyboard.down("ArrowRight")
        page.wait_for_timeout(60)
    page.keyboard.up("ArrowRight")
    saved(page)
    assert len(answers(run.store)) == 2
    wait(page)
    page.focus("#choices .tie")
    for _ in range(8):
        page.keyboard.down("Enter")
        page.wait_for_timeout(60)
    page.keyboard.up("Enter")
    saved(page)
    assert [event.choice for event in answers(run.store)] == ["a", "b", "tie"]
    wait(page)
    for options in ("isComposing: true", "keyCode: 229", "ctrlKey: true", "altKey: true"):
        page.evaluate(
            "document.body.dispatchEvent(new KeyboardEvent('keydown',"
            f" {{ key: '1', code: 'Digit1', bubbles: true, {options} }}))"
        )
    page.evaluate(  # the digits of a French keyboard
        "document.body.dispatchEvent(new KeyboardEvent('keydown',"
        " { key: 'é', code: 'Digit2', bubbles: true }))"
    )
    saved(page)
    assert [event.choice for event in answers(run.store)] == ["a", "b", "tie", "b"]


def test_back_reload_and_two_windows_lose_and_double_nothing(labelling):
    run = labelling(pairs(8))
    page = run.page
    press(page, "ArrowLeft")
    page.reload()  # at once: the answer may still be on its way
    page.wait_for_selector("html[data-ready]")
    press(page, "ArrowLeft")
    page.go_back()
    page.go_forward()
    page.wait_for_selector("html[data-ready]")
    other = page.context.new_page()
    other.goto(run.server.url)
    other.wait_for_selector("html[data-ready]")
    shown = other.inner_text("#prompt")
    assert shown == page.inner_text("#prompt")
    press(page, "ArrowLeft")
    other.wait_for_selector(f"#prompt:not(:text-is('{shown.strip()}'))")
    press(other, "ArrowRight")
    saved(page)
    saved(other)
    said = answers(run.store)
    assert [event.choice for event in said] == ["a", "a", "a", "b"]
    assert len({event.item for event in said}) == 4 == len(run.store.events())


def test_of_two_browsers_at_one_question_the_first_is_heard(labelling, open_page):  # noqa: F811
    run = labelling(pairs(6), offline_errors=True)
    other = open_page(run.server.address("anna"))
    begin(other)
    assert other.inner_text("#prompt") == run.page.inner_text("#prompt")
    press(run.page, "ArrowLeft")
    saved(run.page)
    press(other, "ArrowRight")
    other.wait_for_selector("#said:not(:empty)")
    assert other.inner_text("#said").startswith("Another window answered this one first")
    saved(other)
    assert [event.choice for event in run.store.events()] == ["a"]


def test_an_outage_keeps_the_answers_in_the_browser(labelling):
    run = labelling(pairs(9), offline_errors=True)
    page = run.page
    page.wait_for_timeout(200)  # the next questions are there
    run.stop()
    press(page, "ArrowLeft")
    press(page, "ArrowRight")
    page.keyboard.press("u")
    press(page, "ArrowDown")
    page.wait_for_selector("#saved[data-state=offline]")
    assert page.inner_text("#saved") == "Not saved: 4 kept in this browser"
    page.close()
    assert run.store.events() == []
    run.start()
    later = page.context.new_page()
    later.goto(run.server.url)
    later.wait_for_selector("html[data-ready]")
    saved(later)
    assert [event.choice for event in run.store.events()] == ["a", "b", None, "tie"]
    assert [event.choice for event in answers(run.store)] == ["a", "tie"]
    press(later, "ArrowLeft")
    saved(later)
    assert len({event.item for event in answers(run.store)}) == 3


def test_an_answer_the_server_refuses_is_kept_and_said(labelling):
    run = labelling(pairs(4), offline_errors=True)
    page = run.page
    page.route("**/api/answer", lambda route: route.fulfill(status=422, json={"error": "too odd"}))
    press(page, "ArrowLeft")
    page.wait_for_selector("#saved[data-state=refused]")
    assert page.inner_text("#saved") == "1 refused by the server: too odd"
    page.unroute("**/api/answer")
    press(page, "ArrowRight")
    page.keyboard.press("h")
    page.get_by_role("button", name="Discard").click()
    saved(page)
    assert [event.choice for event in answers(run.store)] == ["b"]


def test_texts_are_shown_as_they_are_and_obeyed_by_nothing(labelling):
    items = [NewItem(text, (Text(text + "1"), Text("2" + text))) for text in NASTY]
    run = labelling(items, guidelines=NASTY[0], rater=NASTY[0])
    page = run.page
    dialogs = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    stored = {item.prompt: {text.text for text in item.texts} for item in run.store.items()}
    seen = {}
    for _ in items:
        wait(page)
        shown = page.eval_on_selector_all(".text", "all => all.map(e => e.textContent)")
        guidelines, prompt, *sides = shown
        assert guidelines == NASTY[0]
        seen[prompt] = set(sides)
        page.keyboard.press("n")
        page.fill("#note", prompt)
        page.keyboard.press("Escape")
        page.keyboard.press("ArrowLeft")
    saved(page)
    assert seen == stored and len(seen) == len(NASTY)
    notes = {event.note for event in run.store.events()}
    assert notes == {re.sub("\r\n?", "\n", text) for text in NASTY}
    page.keyboard.press("h")
    page.wait_for_selector("#history-dialog li")
    assert dialogs == []


def test_invisible_characters_are_named_on_demand(labelling):
    run = labelling([NewItem("p", (Text("a\u200bb"), Text("x\u202ey\u00a0z")))])
    page = run.page
    page.keyboard.press("i")
    texts = {page.inner_text("#text-a"), page.inner_text("#text-b")}
    assert texts == {"aZWSPb", "xRLOyNBSPz"}
    page.keyboard.press("i")
    texts = set(page.eval_on_selector_all(".pair .text", "all => all.map(e => e.textContent)"))
    assert texts == {"a\u200bb", "x\u202ey\u00a0z"}


def test_chinese_and_right_to_left(labelling):
    items = [
        NewItem("天气：", (Text("今天很好。"), Text("不好。")), lang="zh-Hans", priority=1),
        NewItem("الليل: ", (Text("نام القمر 1."), Text("مظلم.")), lang="ar"),
    ]
    run = labelling(items, context={"locale": "zh-CN", "viewport": {"width": 900, "height": 700}})
    page = run.page
    assert page.get_attribute("html", "lang") == "zh"
    assert page.inner_text("#choices .a").startswith("A 更好")
    assert page.get_attribute("#text-a", "lang") == "zh-Hans"
    press(page, "ArrowLeft")
    direction = "getComputedStyle(document.getElementById('text-a')).direction"
    assert page.get_attribute("#text-a", "lang") == "ar" and page.evaluate(direction) == "rtl"
    page.evaluate("document.documentElement.dir = 'rtl'")
    left, right = (page.locator(f"#card-{side}").bounding_box() for side in "ab")
    assert left["x"] < right["x"] and left["y"] == right["y"]
    assert left["height"] == right["height"] and left["width"] == right["width"]
    shown = page.evaluate("document.getElementById('text-a').textContent")
    press(page, "ArrowLeft")
    saved(page)
    event = answers(run.store)[1]
    assert items[1].texts[event.winner == "second"].text == shown


def test_on_a_narrow_screen_nothing_runs_over_and_the_texts_are_stacked(labelling):
    long = [NewItem("w" * 300, (Text("x" * 500), Text("y " * 300, is_cut=True)))]
    asks = ("strength", "facts", "rewrite")
    run = labelling(long, asks=asks, context={"viewport": {"width": 320, "height": 640}})
    page = run.page
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    left, right = (page.locator(f"#card-{side}").bounding_box() for side in "ab")
    assert left["x"] == right["x"] and right["y"] > left["y"]
    small = page.eval_on_selector_all(
        "button, select, label.option",
        "all => all.filter(e => e.offsetHeight && e.offsetHeight < 44).map(e => e.outerHTML)",
    )
    assert small == []
    marks = {page.inner_text("#mark-a"), page.inner_text("#mark-b")}
    assert marks == {"This text was cut off at its length limit.", "This text ends by itself."}


def test_strength_facts_and_a_rewrite_beside_a_choice(labelling):
    run = labelling(pairs(3), asks=("strength", "facts", "rewrite"))
    page = run.page
    page.check("#facts input[value=neither]")
    page.evaluate("document.activeElement.blur()")
    press(page, "Shift+" + side_of(page, "good"))
    wait(page)
    assert page.locator("#facts input:checked").count() == 0
    page.check("#rewrite-too input")
    page.keyboard.press(side_of(page, "bad"))
    page.fill("#editor", "better")
    (draft,) = page.evaluate("Object.keys(localStorage).filter((key) => key.includes('draft'))")
    assert draft.startswith(f"textgym.draft.{run.store.settings.id}.anna.")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    press(page, side_of(page, "bad"))
    assert page.input_value("#editor") == "better"
    page.keyboard.press("Control+Enter")
    saved(page)
    one, other = answers(run.store)
    assert (one.winner, one.strength, one.facts, one.rewrite) == ("first", 2, "neither", None)
    assert (other.winner, other.strength, other.facts) == ("second", 1, None)
    assert other.rewrite == "better"
    assert "draft" not in page.evaluate("Object.keys(localStorage).join()")


def test_ratings_and_rewrites(labelling):
    rating = NewItem("p", (Text("t"),), "rating", priority=1)
    edit = NewItem("p", (Text("a\r\nb"),), "edit")
    run = labelling([rating, edit], scale=(0, 10))
    page = run.page
    assert page.locator("#choices button").count() == 11
    press(page, "7")
    wait(page)
    assert page.inner_text("#choices").startswith("Save without a rewrite")
    page.fill("#editor", "better")
    assert page.inner_text("#choices").startswith("Save the rewritten text")
    page.keyboard.press("Control+Enter")
    saved(page)
    one, other = answers(run.store)
    assert (one.choice, one.score) == ("rate", 7)
    assert (other.choice, other.rewrite) == ("edit", "better")
    page.wait_for_selector("#done:not([hidden])")
    assert page.inner_text("#done h2") == "All done, thank you"


def test_keys_can_be_changed_and_turned_off(labelling):
    run = labelling(pairs(5))
    page = run.page
    page.keyboard.press("?")
    page.get_by_role("button", name="Equally good: ↓, 0").click()
    page.keyboard.press("1")
    assert "taken by “A is better”" in page.inner_text("#keys-said")
    page.get_by_role("button", name="Equally good: ↓, 0").click()
    page.keyboard.press("x")
    page.keyboard.press("Escape")
    assert "X" in page.inner_text("#choices .tie")
    press(page, "x")
    page.keyboard.press("?")
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    assert page.inner_text("#choices .tie").split() == ["Equally", "good", "↓"]
    wait(page)
    for key in "x1sun":
        page.keyboard.press(key)
    page.keyboard.press("ArrowRight")
    saved(page)
    assert [event.choice for event in answers(run.store)] == ["tie", "b"]


def answered(count):
    """Gives anna's answers before the page is opened."""

    def give(store):
        for showing in store.next("anna", count):
            store.answer("anna", Reply(showing.id, f"key {showing.id:05}", "a"))

    return give


def test_undo_goes_far_back_and_history_changes_anything(labelling):
    run = labelling(pairs(30), before=answered(25))
    page = run.page
    first = run.store.events()[0]
    page.keyboard.press("h")
    assert page.locator("#history-dialog li").count() == 25
    page.locator("#history-dialog li button").last.click()
    assert page.inner_text("#again").startswith("You said: A.")
    press(page, "ArrowRight")
    saved(page)
    for _ in range(21):
        page.keyboard.press("u")
    saved(page)
    log = run.store.events()
    assert [(e.choice, e.undoes) for e in log[25:27]] == [(None, first.id), ("b", None)]
    assert [e.undoes for e in log[27:]] == [27, *range(25, 5, -1)]
    assert [e.id for e in answers(run.store)] == [2, 3, 4, 5]
    assert page.inner_text("#progress-text").startswith("4 of 30")


def test_nothing_says_who_wrote_a_text(labelling):
    run = labelling(pairs(12), before=answered(2), gold=0.5, repeats=0.5)
    page = run.page
    bodies = []
    page.on("response", lambda response: bodies.append(response.text()))
    page.reload()
    page.wait_for_selector("html[data-ready]")
    press(page, "ArrowLeft")
    page.keyboard.press("u")
    saved(page)
    page.keyboard.press("h")
    together = "\n".join(bodies) + page.content()
    assert "good" in together and len(bodies) > 20
    assert SECRET not in together and "source" not in "".join(bodies[-5:])
    for hidden in ('"gold"', '"is_repeat"', '"run"', '"query"'):
        assert hidden not in together
