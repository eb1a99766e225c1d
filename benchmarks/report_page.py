"""How large the page of a comparison is, how fast it opens, sorts, filters and moves its slider.

    python benchmarks/report_page.py

On a machine that has other work: `chrt -r 1 python benchmarks/report_page.py`, as root.
A study of 200 prompts × 10 runs × 20 evaluations, all ten columns shown beside the start, measured
inside a real Chromium: from the start of the navigation until the table stands, and from an input
until the frame after it is painted. The words are drawn one by one from the movie reviews, which
compresses worse than anything that a model writes. Writes benchmarks/results/report_page.md.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import where

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import launched  # noqa: E402
from made_studies import made_study  # noqa: E402

from textgym.agents.comparison.page.write import write_page  # noqa: E402
from textgym.envs.tasks.movie_reviews import load_movie_reviews  # noqa: E402

REWARDS = ("crowd", "ngrams", "lexicon", "length", "hacked")
CELLS = [(agent, reward) for agent in ("ppo", "grpo") for reward in REWARDS]
JUDGES = {**dict.fromkeys(REWARDS, "reward"), "critic": "gold", "reader": "gold"}
ALL = ",".join(f"{cell}.0" for cell in range(10))

# Runs inside the page: what to change, then the time until the frame after is painted.
MEASURE = """async ({ id, values, event }) => {
  const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))
  const node = document.getElementById(id), times = []
  for (const value of values) {
    await painted()
    const before = performance.now()
    if (event === "click") node.click()
    else { node.value = value; node.dispatchEvent(new Event(event)) }
    await painted()
    times.push(performance.now() - before)
  }
  return times
}"""
SORTS = ["score", "difference", "worst", "disagreement", "length", "kl", "prompt"]
ACTIONS = {
    "slider": {"id": "slider", "values": [*range(19, -1, -1), *range(20)], "event": "input"},
    "sort": {"id": "sort", "values": SORTS * 4, "event": "change"},
    "order": {"id": "direction", "values": list(range(20)), "event": "click"},
    "judge": {"id": "judge", "values": list(JUDGES) * 4, "event": "change"},
    "search": {
        "id": "search",
        "values": ["f", "fi", "fil", "film", "good", "goo", "", "the", "a", ""] * 3,
        "event": "input",
    },
    "token colours, differences": {
        "id": "mode",
        "values": ["ratio", "reward:lexicon", "plain", "difference"] * 6,
        "event": "change",
    },
}


def study_of(prompts=200, evaluations=20, words=48):
    """The study, its words drawn one by one."""
    study = made_study(
        CELLS, seeds=1, prompts=prompts, evaluations=evaluations, judges=JUDGES, words=words
    )
    pool = [word for review in load_movie_reviews("validation") for word in review.text.split()]
    draw = random.Random(0)
    first = {}
    for run in study.runs:
        for step, texts in run.record.texts.items():
            for k, text in enumerate(texts):
                made = _other_words(text, draw, pool)
                texts[k] = first.setdefault(k, made) if step == 0 else made
    return study


def _other_words(text, draw, pool):
    pieces = [" " + draw.choice(pool) for _ in text.token_ends]
    ends = np.cumsum([len(piece) for piece in pieces]).tolist()
    return replace(text, completion="".join(pieces), token_ends=ends)


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--opens", type=int, default=7)
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/report_page.md"))
    options = parser.parse_args()
    before_start = where(2)
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        before_start.append("- real-time priority (`chrt -r 1`): other work on the machine waited")
    study = study_of()
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        before = time.perf_counter()
        path = write_page(study, Path(folder) / "report.html")
        seconds = time.perf_counter() - before
        size = path.stat().st_size / 1e6
        lines = [f"The page has {size:.1f} MB (limit 10) and was written in {seconds:.1f} s.", ""]
        tokens = np.mean(
            [t.length for run in study.runs for ts in run.record.texts.values() for t in ts]
        )
        lines += [f"Texts have {tokens:.0f} tokens in the mean; seven judges.", ""]
        lines += [
            "| what | n | median, ms | 95th percentile, ms | largest, ms |",
            "|---|---|---|---|---|",
        ]
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        for name, link in (("open, three columns", ""), ("open, ten columns", f"#columns={ALL}")):
            lines.append(
                _line(name, [_opening(page, path.as_uri() + link) for _ in range(options.opens)])
            )
        for rows in (10, 25):
            _opening(page, f"{path.as_uri()}#columns={ALL}&rows={rows}")
            for name, action in ACTIONS.items():
                times = page.evaluate(MEASURE, action)
                lines.append(_line(f"{name}, {rows} rows × 11 columns", times))
        text = "\n".join(lines)
        version = browser.version
    print(text)
    about = "\n".join([*before_start, f"- Chromium {version}"])
    head = f"# The page of a study\n\n{about}\n\n"
    Path(options.out).write_text(f"{head}{text}\n", encoding="utf-8")


def _opening(page, url):
    """Milliseconds from the start of the navigation until the table stands."""
    page.goto("about:blank")
    page.goto(url)
    page.wait_for_selector("html[data-ready]")
    return page.evaluate("performance.getEntriesByName('ready')[0].startTime")


def _line(name, times):
    middle, high = np.percentile(times, [50, 95])
    return f"| {name} | {len(times)} | {middle:.0f} | {high:.0f} | {max(times):.0f} |"


if __name__ == "__main__":
    main()
