"""The demo with several seeds against its bars, as a page of Markdown.

    python benchmarks/demo_seeds.py --seeds 0 1 2 --out benchmarks/results/demo.md

runs the demo once per seed (some four minutes each on two cores); `--reports` summarises runs that
are done already. Settings were chosen on the validation prompts; this reads the test prompts.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from machine import where

from textgym.demonstration.run import run_demo


def text_bars(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Each bar on the texts before and after, with the figure and whether it holds.

    :param before, after: figures of an `EvaluationReport`.
    """
    (low, low_half), (high, high_half) = before["judges"]["critic"], after["judges"]["critic"]
    ratio = {name: after[name] / before[name] for name in ("perplexity", "distinct_2")}
    length = after["length"][0] / before["length"][0]
    read, reread = before["bits_per_character"], after["bits_per_character"]
    return [
        ("judge rises by ≥ 0.4 SD", f"{high - low:+.3f}", high - low >= 0.4),
        (
            "95% intervals apart",
            f"{low:.3f} ± {low_half:.3f} → {high:.3f} ± {high_half:.3f}",
            low + low_half < high - high_half,
        ),
        (
            "perplexity under the start 0.8 to 1.5×",
            f"{ratio['perplexity']:.2f}",
            0.8 <= ratio["perplexity"] <= 1.5,
        ),
        ("distinct-2 ≥ 0.8×", f"{ratio['distinct_2']:.3f}", ratio["distinct_2"] >= 0.8),
        ("length 0.75 to 1.25×", f"{length:.2f}", 0.75 <= length <= 1.25),
        (
            "commonest bigram ≤ 0.35 per text",
            f"{before['bigram_share']:.3f} → {after['bigram_share']:.3f}",
            after["bigram_share"] <= 0.35,
        ),
        (
            "made-up words not up",
            f"{before['made_up']:.3f} → {after['made_up']:.3f}",
            after["made_up"] <= before["made_up"],
        ),
        (
            "bits per character, read, not up",
            f"{read[0]:.3f} ± {read[1]:.3f} → {reread[0]:.3f} ± {reread[1]:.3f}",
            reread[0] <= read[0] + read[1],
        ),
    ]


def bars(report: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Each bar of the demo, those of its reward model last."""
    crowd = report["reward_model"]
    accuracy = crowd["pair_accuracy"]
    return [
        *text_bars(report["before"], report["after"]),
        ("reward model's pair accuracy ≥ .58", f"{accuracy:.3f}", accuracy >= 0.58),
        (
            "and that of n-grams alone",
            f"{crowd['accuracies']['n-grams']:.3f} (used: {crowd['used']})",
            accuracy >= crowd["accuracies"]["n-grams"],
        ),
    ]


def bar_lines(
    reports: list[dict[str, Any]], columns: list[list[tuple[str, str, bool]]]
) -> list[str]:
    """The lines of a table of bars, one column per seed."""
    head = ["bar", *(f"seed {report['seed']}" for report in reports)]
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    for row in zip(*columns, strict=True):
        cells = [f"{value} {'✓' if holds else '**missed**'}" for _, value, holds in row]
        lines.append(f"| {' | '.join([row[0][0], *cells])} |")
    return lines


def page(reports: list[dict[str, Any]], threads: int, name: str = "The demo") -> str:
    """The table, one column per seed.

    :param name: of the demo.
    """
    lines = bar_lines(reports, [bars(report) for report in reports])
    for label, pick in (
        ("second judge", lambda r, when: f"{r[when]['judges']['other_raters'][0]:.3f}"),
        ("KL, nats per text", lambda r, when: f"{r[when]['kl'][0]:.2f}"),
        ("ended by the stop token", lambda r, when: f"{r[when]['finish'].get('stop', 0):.2f}"),
    ):
        cells = [f"{pick(r, 'before')} → {pick(r, 'after')}" for r in reports]
        lines.append(f"| {' | '.join([label, *cells])} |")
    seconds = [f"{report['seconds']:.0f}" for report in reports]
    lines.append(f"| {' | '.join(['seconds', *seconds])} |")
    count = reports[0]["before"]["episodes"]
    return titled(f"{name}, {len(reports)} seeds, {count} held-out prompts", lines, threads)


def titled(title: str, lines: list[str], threads: int) -> str:
    """A page of Markdown, with where it was measured at its end."""
    return "\n".join([f"# {title}", "", *lines, "", *where(threads)]) + "\n"


def arguments_of(description: str, name: str) -> argparse.ArgumentParser:
    """What all demos of several seeds take.

    :param name: of the folder of runs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--reports", type=Path, nargs="*", help="report.json files")
    parser.add_argument("--runs", type=Path, default=Path("runs") / name)
    return parser


def run_or_read(arguments: argparse.Namespace, **keywords: Any) -> list[dict[str, Any]]:
    """The reports of all seeds: those that are given, or of demos that are run now.

    :param keywords: of `run_demo`.
    """
    if arguments.reports:
        return [json.loads(path.read_text("utf-8")) for path in arguments.reports]
    return [run_demo(out=arguments.runs / str(s), seed=s, **keywords) for s in arguments.seeds]


def write(text: str, out: Path) -> None:
    """Write and print a page."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    print(text)


def main() -> int:
    """Run or read, and write the page."""
    parser = arguments_of(__doc__.splitlines()[0], "demo_seeds")
    parser.add_argument("--from-scratch", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo.md"))
    arguments = parser.parse_args()
    reports = run_or_read(arguments, from_scratch=arguments.from_scratch)
    write(page(reports, torch.get_num_threads()), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
