"""The two pictures of a run: the learning curve, and what over-optimisation looks like."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from textgym.errors import InputError
from textgym.paths import expand
from textgym.run_files import TENSORBOARD

BLUE, ORANGE, GREY = "#1f6f8b", "#d1602f", "#8a8a8a"


def learning_curve(rows: Sequence[Mapping[str, float]], *, judge: str) -> Figure:
    """Training reward and the independent judge's score over the tokens of a run.

    :param judge: tag of the judge's score.
    """
    figure, axes = _figure()
    for tag, colour, label in (
        ("reward/environment", BLUE, "training reward"),
        (judge, ORANGE, "independent judge"),
    ):
        steps, values = _series(rows, tag)
        axes.plot(steps, values, color=colour, alpha=0.25, linewidth=1)
        axes.plot(steps, _smooth(values), color=colour, linewidth=2, label=label)
    axes.set_xlabel("completion tokens")
    axes.set_ylabel("score per text (SD of human reviews)")
    axes.set_title("Does the judge follow the reward?")
    axes.legend(frameon=False)
    return figure


def over_optimisation(runs: Mapping[str, Sequence[Mapping[str, float]]], *, judge: str) -> Figure:
    """Judge's score and distinct-2 against the distance from the start, √KL (Gao et al. 2023).

    :param runs: rows of each run by its label; the first is the one that went well.
    :param judge: tag of the judge's score.
    """
    figure, axes = _figure()
    right = axes.twinx()
    for (label, rows), style, marker in zip(runs.items(), ("-", "--", ":"), "os^", strict=False):
        kept = [row for row in rows if {"kl/per_episode", judge, "text/distinct_2"} <= row.keys()]
        distance = np.sqrt([max(row["kl/per_episode"], 0.0) for row in kept])
        order = np.argsort(distance, kind="stable")
        for tag, axis, colour, name in (
            (judge, axes, ORANGE, "judge"),
            ("text/distinct_2", right, BLUE, "distinct-2"),
        ):
            values = np.array([row[tag] for row in kept])[order]
            axis.scatter(distance[order], values, s=8, color=colour, alpha=0.3, marker=marker)
            axis.plot(
                distance[order],
                _smooth(values),
                color=colour,
                linestyle=style,
                linewidth=2,
                label=f"{name}, {label}",
            )
    axes.set_xlabel("distance from the start: √KL (KL in nats per text)")
    axes.set_ylabel("judge's score (SD of human reviews)", color=ORANGE)
    right.set_ylabel("distinct-2 (share of different word pairs)", color=BLUE)
    right.set_ylim(0, 1.02)
    axes.set_title("Every judge can be fooled: watch the texts, not the score alone")
    lines = [*axes.get_lines(), *right.get_lines()]
    labels = [str(line.get_label()) for line in lines]
    axes.legend(lines, labels, frameon=False, fontsize=8, loc="center left")
    return figure


def save_pictures(figures: Mapping[str, Figure], directory: str | Path) -> list[Path]:
    """Write figures as PNG files and on TensorBoard's image page; returns the files."""
    directory = expand(directory)
    (directory / "pictures").mkdir(parents=True, exist_ok=True)
    paths = []
    with SummaryWriter(str(directory / TENSORBOARD)) as writer:
        for name, figure in figures.items():
            path = directory / "pictures" / f"{name}.png"
            canvas: Any = FigureCanvasAgg(figure)
            canvas.draw()
            figure.savefig(path)
            image = np.asarray(canvas.buffer_rgba())[..., :3]
            writer.add_image(f"pictures/{name}", image, dataformats="HWC")
            paths.append(path)
    return paths


def _figure() -> tuple[Figure, Axes]:
    """A figure of its own, without pyplot's global state."""
    with matplotlib.rc_context({"font.size": 10}):
        figure = Figure(figsize=(7.2, 4.4), dpi=120, layout="constrained")
        axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GREY, alpha=0.2)
    return figure, axes


def _series(rows: Sequence[Mapping[str, float]], tag: str) -> tuple[np.ndarray, np.ndarray]:
    kept = [(row["step"], row[tag]) for row in rows if tag in row]
    if not kept:
        raise InputError(f"no row of the record has the metric {tag!r}")
    steps, values = zip(*kept, strict=True)
    return np.array(steps), np.array(values)


def _smooth(values: np.ndarray, width: int = 7) -> np.ndarray:
    """Centred running mean, shorter at the ends."""
    half = width // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])
