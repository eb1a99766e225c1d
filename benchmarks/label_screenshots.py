"""Screenshots of the labelling page and of the owner's page, for the documents.

    python benchmarks/label_screenshots.py [--out docs/images]

Serves a small made store and opens it in a real Chromium. Writes `label_pair.png`,
`label_phone_zh.png`, `label_arabic.png` and `label_owner.png`.
"""

import argparse
import io
import random
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import launched  # noqa: E402
from label_server import running_server  # noqa: E402

from textgym.reward_models.people.records import NewItem, Reply, Text  # noqa: E402
from textgym.reward_models.people.store import LabelStore  # noqa: E402

GUIDELINES = """Choose the text that you would rather read on.

1. Judge the text, not whether you agree with it.
2. A short text can be better than a long one.
3. If both are equally good, say so; if neither is any good, say that."""
ENGLISH = (
    "The film opens in a train station, and ",
    "the camera lingers on faces that we never meet again. It is a patient, generous way to begin, "
    "and it pays off when the last scene comes back to the same platform.",
    "nothing much happens for an hour. Then it happens twice. I would have walked out, had the "
    "seats been worse.",
    "en",
)
CHINESE = (
    "这部电影开头很慢，",
    "但是镜头始终停留在人物的脸上，让人慢慢走进他们的生活。结尾回到同一个站台，令人难忘。",
    "没什么意思，看了一半就睡着了。",
    "zh-Hans",
)
ARABIC = (
    "اكتب سطرًا عن الليل: ",
    "نام القمر على سطح بيتنا ونسي مفاتيحه.",
    "الليل مظلم والناس نيام، والساعة 3.",
    "ar",
)
GOOD = ("a patient film that trusts its actors.", "the jokes land, and so does the ending.")
BAD = ("it is a film and it is long.", "the the plot plot goes on.")
PEOPLE = {"anna": 0.95, "bo": 0.85, "chen 陈": 0.7}  # how often each takes the good one


def shot(browser, store, out, name, *, rater="anna", owner=False, **options):
    """One picture, its colours reduced so that it is small."""
    context = browser.new_context(reduced_motion="reduce", **options)
    page = context.new_page()
    with running_server(store) as server:
        page.goto(server.address(rater, is_owner=owner))
        page.click("a.button")
        page.wait_for_selector("html[data-ready]")
        if owner:
            page.goto(f"{server.url}/owner")
            page.locator(".disputed summary").first.click()
            page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(300)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(out / f"{name}.png", optimize=True)
    context.close()


def judged(folder):
    """A store that three people have worked on."""
    draw = random.Random(1)
    store = LabelStore(Path(folder) / "judged.db", raters=3, seed=3, repeats=0.15, gold=0.2)
    for number in range(40):
        texts = (Text(f"{draw.choice(GOOD)} ({number})"), Text(f"{draw.choice(BAD)} ({number})"))
        right = draw.choice(("first", "second"))
        texts = texts if right == "first" else texts[::-1]
        gold = right if draw.random() < 0.4 else None
        store.add_items([NewItem(f"Take {number + 1}: the film is ", texts, gold=gold)])
    for rater, skill in PEOPLE.items():
        for number in range(44):
            for showing in store.next(rater):
                is_a_good = any(text in showing.on_screen[0].text for text in GOOD)
                right, wrong = "ab" if is_a_good else "ba"
                is_right = draw.random() < skill
                choice = right if is_right else draw.choice(["tie", "both_bad", wrong])
                times = {"shown_at": 1e9, "answered_at": 1e9 + 1 + draw.expovariate(0.2)}
                store.answer(rater, Reply(showing.id, f"{rater} {number:06}", choice, **times))
    return store


def main():
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=str(ROOT / "docs/images"), type=Path)
    out = parser.parse_args().out
    wide = {"viewport": {"width": 1180, "height": 620}}
    tall = {"viewport": {"width": 1180, "height": 760}}
    phone = {"viewport": {"width": 400, "height": 700}, "locale": "zh-CN"}
    dark = {"viewport": {"width": 820, "height": 560}, "color_scheme": "dark"}
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        for name, (prompt, one, other, lang), guidelines, options in (
            ("label_pair", ENGLISH, GUIDELINES, wide),
            ("label_phone_zh", CHINESE, "", phone),
            ("label_arabic", ARABIC, "", dark),
        ):
            path = Path(folder) / f"{name}.db"
            with LabelStore(path, guidelines=guidelines, seed=2) as store:
                item = NewItem(prompt, (Text(one), Text(other)), lang=lang)
                store.add_items([item])
                shot(browser, store, out, name, **options)
        with judged(folder) as store:
            shot(browser, store, out, "label_owner", rater="owner", owner=True, **tall)


if __name__ == "__main__":
    main()
