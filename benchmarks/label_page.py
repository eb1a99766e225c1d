"""How fast the labelling page goes from an answer to the next pair, and until it is saved.

    python benchmarks/label_page.py

On a machine that has other work: `chrt -r 1 python benchmarks/label_page.py`, as root.
A real server and store on this machine's disk, a real Chromium, pairs of real movie reviews put
together to about 120 words a side. A rater presses a key 350 ms after each pair was painted, as
fast as the page lets anybody answer. Measured inside the page, from the time stamp of the key press
until the frame with the next pair is painted, and until the page says that the answer is saved:
then it is on the disk. Writes benchmarks/results/label_page.md.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
from machine import where

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import launched  # noqa: E402
from label_server import running_server  # noqa: E402

from textgym.envs.tasks.movie_reviews import load_movie_reviews  # noqa: E402
from textgym.reward_models.people.records import NewItem, Text, standing  # noqa: E402
from textgym.reward_models.people.store import LabelStore  # noqa: E402

# Notes the time stamp of each key press, of the paint after it, and of the answer on the disk.
WATCH = """() => {
  const page = document.documentElement, saved = document.getElementById("saved")
  const times = { pressed: [], painted: [], saved: [] }
  addEventListener("keydown", (event) => times.pressed.push(event.timeStamp), true)
  new MutationObserver(() => {
    if (page.dataset.painted && times.painted.length < times.pressed.length)
      times.painted.push(performance.now())
  }).observe(page, { attributeFilter: ["data-painted"] })
  new MutationObserver(() => {
    if (saved.dataset.state === "saved") times.saved.push(performance.now())
  }).observe(saved, { attributeFilter: ["data-state"] })
  window.times = times
}"""
PAINTED = """async (count) => {
  while (window.times.painted.length < count || window.times.saved.length < count)
    await new Promise((done) => setTimeout(done, 5))
  await new Promise((done) => setTimeout(done, 350))
}"""


def items_of(count: int, words: int) -> list[NewItem]:
    """Pairs of texts of about so many words."""
    draw = random.Random(0)
    pool = [review.text for review in load_movie_reviews("validation")]

    def text() -> Text:
        parts: list[str] = []
        while sum(len(part.split()) for part in parts) < words:
            parts.append(draw.choice(pool))
        return Text(" ".join(parts))

    return [NewItem(f"The film {n} ", (text(), text())) for n in range(count)]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--words", type=int, default=120)
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/label_page.md"))
    options = parser.parse_args()
    before_start = where(2)
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        before_start.append("- real-time priority (`chrt -r 1`): other work on the machine waited")
    with tempfile.TemporaryDirectory(dir=ROOT) as folder, launched() as browser:
        with LabelStore(Path(folder) / "labels.db") as store, running_server(store) as server:
            store.add_items(items_of(options.answers + 10, options.words))
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.goto(server.address("rater"))
            page.click("a.button")
            page.wait_for_selector("html[data-ready]")
            page.wait_for_timeout(400)
            page.evaluate(WATCH)
            for count in range(options.answers):
                page.keyboard.press("ArrowLeft" if count % 2 else "ArrowRight")
                page.evaluate(PAINTED, count + 1)
            times = page.evaluate("window.times")
            stored = len(standing(store.events()))
        version = browser.version
    assert stored == options.answers, f"{stored} answers stored of {options.answers}"
    lines = [
        f"{stored} answers, every one stored; texts of about {options.words} words.",
        "",
        "| from the key press until | n | median, ms | 95th percentile, ms | largest, ms |",
        "|---|---|---|---|---|",
    ]
    for name, what in (("the next pair is painted", "painted"), ("the answer is saved", "saved")):
        taken = np.array(times[what]) - np.array(times["pressed"])
        middle, high = np.percentile(taken, [50, 95])
        lines.append(f"| {name} | {len(taken)} | {middle:.0f} | {high:.0f} | {taken.max():.0f} |")
    text = "\n".join(lines)
    print(text)
    about = "\n".join([*before_start, f"- Chromium {version}"])
    Path(options.out).write_text(f"# The labelling page\n\n{about}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
