"""How long `textgym report` takes on a study of 24 runs × 5 evaluations × 200 prompts.

    python benchmarks/report_speed.py [--repeats 3]

Four cells with six seeds each, texts of 48 words cut from the movie reviews, four judges. A process
a report, on one thread, from its start to its end. Its processor time is what somebody waits for it
on a machine that is otherwise idle; the wall-clock time holds what the machine does beside it.
Writes benchmarks/results/report_speed.md.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import where

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from made_studies import made_study, write_made_study  # noqa: E402

CELLS = [(agent, reward) for agent in ("ppo", "grpo") for reward in ("crowd", "lexicon")]
BAR = 20.0
FILES = ("report.html", "report.md", "report.tex", "report.json")


def timed_report(study, out):
    """Seconds of wall-clock and of processor time of one report."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-m", "textgym", "report", str(study), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used


def main():
    """Measure, and write the page of results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=3, help="reports")
    repeats = parser.parse_args().repeats
    lines = where(threads=1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        study = made_study(CELLS, seeds=6, prompts=200, evaluations=5, words=48)
        write_made_study(study, place / "study")
        record = sum(p.stat().st_size for p in (place / "study").rglob("held_out*.jsonl"))
        times = [timed_report(place / "study", place / f"out-{k}") for k in range(repeats)]
        sizes = {name: (place / "out-0" / name).stat().st_size for name in FILES}
    walls, used = zip(*times, strict=True)
    median = statistics.median(used)
    rows = [
        "# How long a report takes",
        "",
        *lines,
        "",
        f"24 runs × 5 evaluations × 200 prompts, {record / 1e6:.0f} MB of held-out texts, as "
        "`textgym report` in a process of its own. The bar is 20 s.",
        "",
        "| what | median | range | bar | |",
        "|---|---|---|---|---|",
        f"| processor time, s | {median:.1f} | {min(used):.1f} to {max(used):.1f} | ≤ {BAR:g} "
        f"| {'pass' if median <= BAR else 'fail'} |",
        f"| wall-clock time, s | {statistics.median(walls):.1f} | {min(walls):.1f} to "
        f"{max(walls):.1f} | | |",
        *(f"| {name}, kB | {size / 1e3:,.0f} | | | |" for name, size in sizes.items()),
    ]
    text = "\n".join(rows) + "\n"
    print(text)
    target = Path(__file__).parent / "results" / "report_speed.md"
    target.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
