"""`textgym demo --human` with a scripted rater of a taste unlike the crowd's, in a real Chromium.

    python benchmarks/demo_human.py

The rater (tests/support/scripted_rater.py) wants questions and persons (I, we, you), then brevity.
Before each rollout it answers a few pairs on the real page, over a real server: 120 answers to
learn from and 200 that are set aside, then 20 blind ones. Writes benchmarks/results/demo_human.md.
The rater's taste is known here, so that it can say of every held-out prompt which text it prefers.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from machine import where
from rich.console import Console

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from browser import launched  # noqa: E402
from scripted_rater import ScriptedRater, likes_questions_and_people  # noqa: E402

from textgym.demonstration.run import run_demo  # noqa: E402
from textgym.demonstration.settings import Settings  # noqa: E402
from textgym.reward_models.share_intervals import wilson_interval  # noqa: E402


def preferences(rows, taste=likes_questions_and_people):
    """What the rater says of every held-out prompt: {"before", "after", "tie"} counts."""
    pairs = [(taste(row["before"]), taste(row["after"])) for row in rows]
    return {
        "before": sum(one > other for one, other in pairs),
        "after": sum(one < other for one, other in pairs),
        "tie": sum(one == other for one, other in pairs),
    }


def share(count, of):
    """A share with Wilson's 95% interval, in words."""
    if not of:
        return "none decided"
    low, high = wilson_interval(count / of, of, 1.96)
    return f"{count} of {of}: {count / of:.0%} [{low:.0%}, {high:.0%}]"


def page(figures, rows, about, answers, seconds):
    """The page, in Markdown."""
    counts, accuracy, blind = figures["answers"], figures["accuracy"], figures["blind"]
    said = preferences(rows)
    lines = [
        "# `textgym demo --human` with a scripted rater",
        "",
        *about,
        f"- {answers} answers through Chromium, {seconds:.0f} processor seconds without it",
        "",
        "Not a person: a script that wants questions and persons (?, I, we, you), then fewer words,"
        " and never errs.",
        "",
        "| | |",
        "|---|---|",
        f"| learned from, in refits | {counts['fitted']}, {figures['refits']} |",
        f"| set aside, of them decided | {counts['held_out']}, {accuracy['decided']} |",
    ]
    for name, title in (("human", "learned model"), ("crowd", "crowd's model")):
        if name in accuracy:
            mean, low, high = accuracy[name]
            lines.append(
                f"| {title} sides with those set aside | {mean:.0%} [{low:.0%}, {high:.0%}] |"
            )
    if figures["taste"] is not None:
        rise, half = figures["taste"]["rise"]
        lines.append(
            f"| rise by the judge of the answers set aside, SD | {rise:+.2f} ± {half:.2f} |"
        )
    rise, half = figures["crowd"]["rise"]
    lines += [
        f"| rise by the crowd's model, SD | {rise:+.2f} ± {half:.2f} |",
        "| after training preferred, asked blind on the page | "
        f"{share(blind['after'], blind['before'] + blind['after'])} |",
        "| after training preferred, of all held-out prompts, by the script itself | "
        f"{share(said['after'], said['before'] + said['after'])}, {said['tie']} ties |",
    ]
    for name, title in (("words", "words"), ("distinct_2", "distinct-2"), ("kl", "KL, nats")):
        lines.append(f"| {title} | {figures['before'][name]:.2f} → {figures['after'][name]:.2f} |")
    marks = [
        np.mean([likes_questions_and_people(row[side]) + len(row[side].split()) for row in rows])
        for side in ("before", "after")
    ]
    lines.append(f"| questions and persons a text | {marks[0] / 10:.2f} → {marks[1] / 10:.2f} |")
    lines += ["", "| prompt | before | after |", "|---|---|---|"]
    lines += [
        "| " + " | ".join(row[k].replace("|", "/") for k in ("prompt", "before", "after")) + " |"
        for row in rows[:6]
    ]
    return "\n".join(lines) + "\n"


def measure(out, *, answers, held_out, visit, seed, settings):
    """The figures, the held-out texts, and how many answers were given."""
    with launched() as browser:
        rater = ScriptedRater(browser, visit=visit)
        figures = run_demo(
            out=out,
            human=True,
            answers=answers,
            held_out=held_out,
            seed=seed,
            settings=settings,
            person=rater,
            progress_bar=False,
            console=Console(stderr=True, width=160),
        )
    text = (out / "texts.jsonl").read_text(encoding="utf-8")
    return figures, [json.loads(line) for line in text.splitlines()], rater.answers


def main():
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=120)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--visit", type=int, default=10, help="answers before a rollout at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="does the script run?")
    parser.add_argument("--out", default=str(ROOT / "benchmarks/results/demo_human.md"))
    options = parser.parse_args()
    about, began = where(1), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        figures, rows, given = measure(
            Path(folder) / "demo",
            answers=options.answers,
            held_out=options.held_out,
            visit=options.visit,
            seed=options.seed,
            settings=Settings.quick() if options.quick else Settings(),
        )
    text = page(figures, rows, about, given, time.process_time() - began)
    print(text)
    Path(options.out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
