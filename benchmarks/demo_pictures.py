"""The two pictures of docs/demo.md and the README, from the record of a demo that is done.

    python benchmarks/demo_pictures.py runs/demo [--folder docs/pictures]

`learning_curve.png`: reward and judges over the tokens of the run with the larger β.
`over_optimisation.png`: judge and distinct-2 over the distance from the start, both runs.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from textgym.agents.comparison.held_out_curves import DISTINCT_2, KL, curves_of, judge_tag
from textgym.agents.comparison.reading import read_study
from textgym.demonstration.reviews import COMPARISON

BLUE, ORANGE, GREEN = "#1f6f8b", "#d1602f", "#4c8c4a"
GOLD = ("critic", "other_raters")


def figure_with(title: str) -> tuple[Figure, Any]:
    """A figure of the documents' size, and its axes."""
    figure = Figure(figsize=(7.2, 4.4), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#8a8a8a", alpha=0.2)
    return figure, axes


def learning_curve(study: Any, path: Path) -> None:
    """Reward and both judges of the first cell, on the held-out prompts."""
    cell = study.cells[0]
    curves = curves_of(study.runs_of(cell.label)[0], (cell.reward, *GOLD))
    figure, axes = figure_with("Do the judges follow the reward?")
    shown = ((cell.reward, "training reward", BLUE), (GOLD[0], "independent judge", ORANGE))
    for judge, label, colour in (*shown, (GOLD[1], "second judge", GREEN)):
        values = curves.values[judge_tag(judge)]
        axes.plot(curves.steps, values, color=colour, linewidth=2, marker="o", label=label)
    axes.set(xlabel="completion tokens", ylabel="mean score, 250 held-out prompts")
    axes.legend(frameon=False)
    figure.savefig(path)


def over_optimisation(study: Any, path: Path) -> None:
    """The judge rises on, and the texts become alike."""
    figure, axes = figure_with("Every judge can be fooled: watch the texts, not the score alone")
    beside = axes.twinx()
    for cell, style in zip(study.cells, ("-", "--"), strict=True):
        curves = curves_of(study.runs_of(cell.label)[0], GOLD)
        distance = np.sqrt(np.maximum(curves.values[KL], 0))
        beta = cell.settings["kl_coef"]
        for on, values, colour, label in (
            (axes, curves.values[judge_tag(GOLD[0])], ORANGE, f"judge, β = {beta}"),
            (beside, curves.values[DISTINCT_2], BLUE, f"distinct-2, β = {beta}"),
        ):
            on.plot(distance, values, style, color=colour, linewidth=2, marker="o", label=label)
    axes.set_xlabel("distance from the start: √KL (KL in nats per text)")
    axes.set_ylabel("judge's score (SD of human reviews)", color=ORANGE)
    beside.set_ylabel("distinct-2 (share of different word pairs)", color=BLUE)
    beside.set_ylim(0, 1)
    beside.spines["top"].set_visible(False)
    lines = [*axes.get_lines(), *beside.get_lines()]
    axes.legend(lines, [line.get_label() for line in lines], frameon=False, loc="center left")
    figure.savefig(path)


def main() -> int:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("demo", type=Path, help="directory of a demo that is done")
    pictures = Path(__file__).resolve().parents[1] / "docs" / "pictures"
    parser.add_argument("--folder", type=Path, default=pictures)
    arguments = parser.parse_args()
    study = read_study(arguments.demo / COMPARISON)
    learning_curve(study, arguments.folder / "learning_curve.png")
    over_optimisation(study, arguments.folder / "over_optimisation.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
