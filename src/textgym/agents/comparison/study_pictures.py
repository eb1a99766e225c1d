"""The pictures of a study: who fools whom, gold against √KL, and each proxy against gold."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from textgym.agents.comparison.cross_scores import CrossScores, cross_scores, judge_spread
from textgym.agents.comparison.held_out_curves import (
    KL,
    Curves,
    band_of,
    judge_tag,
)
from textgym.agents.comparison.study import Cell, Study

Pixels = npt.NDArray[np.uint8]
Label = Callable[[str], str]

# Okabe and Ito's colours, which all eyes tell apart; lines after the eighth are dashed.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c6d31")
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
# The first draws what it can, the others what it cannot; those that are not installed are skipped.
FONTS = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
)


def study_pictures(study: Study, curves: Mapping[str, Sequence[Curves]]) -> dict[str, Pixels]:
    """All pictures by name, `[height, width, 3]` each; none without held-out evaluations.

    :param curves: by the label of a cell, those of its runs.

    Without a gold judge there is the matrix only. What no installed font can draw in a label shows
    as its code point (U+7535).
    """
    matrix = cross_scores(study)
    if matrix is None:
        return {}
    families = _families()
    style: Any = {"font.family": families, "font.size": 9, "axes.titlesize": 10}
    pictures = {}
    with matplotlib.rc_context(style):  # while they are drawn too: tick labels are made last
        text = drawable_label(families)
        pictures["cross_scores"] = _pixels(_cross_scores(matrix, study, text))
        if study.gold():
            pictures["gold_over_kl"] = _pixels(_gold_over_kl(study, curves, text))
            pictures["proxy_and_gold"] = _pixels(_proxy_and_gold(study, matrix.cells, curves, text))
    return pictures


def _cross_scores(matrix: CrossScores, study: Study, text: Label) -> Figure:
    """Rows: trained on, columns: scored by; the own reward is framed."""
    n_cells, n_judges = matrix.mean.shape
    names = [text(cell.label) for cell in matrix.cells]
    figure, [[axes]] = _figure(2.6 + 1.15 * (n_judges + 1), 1.7 + 0.55 * n_cells)
    largest = np.nanmax(np.abs(matrix.mean), initial=0.1)
    shown = np.ma.masked_invalid(matrix.mean)
    axes.imshow(shown, cmap="RdBu", vmin=-largest, vmax=largest, aspect="auto", alpha=0.85)
    for i, cell in enumerate(matrix.cells):
        for j, judge in enumerate(matrix.judges):
            ends = matrix.lower[i, j], matrix.upper[i, j]
            interval = "" if np.isnan(ends[0]) else f"\n[{ends[0]:+.2f}, {ends[1]:+.2f}]"
            mean = matrix.mean[i, j]
            number = "–" if np.isnan(mean) else f"{mean:+.2f}{interval}"
            ink = "white" if abs(mean) > 0.65 * largest else "black"
            number = number.replace("-", "\u2212")
            axes.text(j, i, number, ha="center", va="center", fontsize=8, color=ink)
            if judge == cell.reward:
                corner = (j - 0.47, i - 0.46)
                frame = Rectangle(corner, 0.94, 0.92, fill=False, edgecolor="black", linewidth=2)
                axes.add_patch(frame)
        if not np.isnan(matrix.excess[i]):
            excess = f"{matrix.excess[i]:+.2f}".replace("-", "\u2212")
            axes.text(n_judges, i, excess, ha="center", va="center", fontweight="bold")
    labels = [text(judge) + _role_note(study, judge) for judge in matrix.judges]
    has_gold = not np.isnan(matrix.excess).all()
    axes.set_xticks(range(n_judges + has_gold), [*labels, "own − gold"][: n_judges + has_gold])
    axes.set_xlim(-0.5, n_judges - 0.5 + has_gold)
    axes.set_yticks(range(n_cells), names)
    axes.xaxis.tick_top()
    axes.set_ylabel("trained on")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    figure.suptitle("Who fools whom? Change of each judge's score by training on each reward")
    note = (
        "in standard deviations of that judge's scores at the start, 95% intervals over seeds and "
        "prompts; framed: the reward trained on"
    )
    figure.supxlabel(note, fontsize=8, color="#444444")
    return figure


def _gold_over_kl(study: Study, curves: Mapping[str, Sequence[Curves]], text: Label) -> Figure:
    """A panel for each gold judge: its score over the distance from the start."""
    gold = study.gold()
    figure, grid = _figure(5.2 * len(gold) + 1.6, 4.0, columns=len(gold))
    for axes, judge in zip(grid[0], gold, strict=True):
        for (label, of_cell), look in zip(curves.items(), cycle(_looks()), strict=False):
            distance = band_of([_with_root(curve) for curve in of_cell], KL)
            score = band_of(of_cell, judge_tag(judge))
            axes.plot(distance.mean, score.mean, label=text(label), **look)
            error = np.array([score.mean - score.lower, score.upper - score.mean])
            if not np.isnan(error).all():
                axes.errorbar(
                    distance.mean, score.mean, error, fmt="none", ecolor=look["color"], alpha=0.35
                )
        axes.set_xlabel("distance from the start: √KL (KL in nats per text)")
        axes.set_ylabel(f"{text(judge)}, mean score per text")
        axes.set_title(f"gold judge: {text(judge)}")
    _legend_beside(figure, grid[0][-1])
    figure.suptitle("What does the distance buy? Gold judges over √KL (Gao et al. 2023)")
    return figure


def _proxy_and_gold(
    study: Study, cells: Sequence[Cell], curves: Mapping[str, Sequence[Curves]], text: Label
) -> Figure:
    """A panel for each cell: its own reward and the gold judges over the tokens."""
    columns = min(4, math.ceil(math.sqrt(len(cells))))
    rows = -(-len(cells) // columns)
    figure, grid = _figure(3.7 * columns + 1.6, 2.7 * rows + 0.6, rows=rows, columns=columns)
    panels = [axes for row in grid for axes in row]
    spreads = {judge: judge_spread(study, judge) for judge in study.judges}
    for axes, cell in zip(panels, cells, strict=False):
        judges = [(cell.reward, BLUE, "own reward")] if cell.reward in study.judges else []
        judges += [
            (judge, colour, f"gold: {judge}")
            for judge, colour in zip(study.gold(), (ORANGE, *COLOURS[2:]), strict=False)
        ]
        for judge, colour, name in judges:
            own = [_since_start(curve, judge, spreads[judge]) for curve in curves[cell.label]]
            band = band_of(own, judge)
            axes.plot(band.steps, band.mean, color=colour, label=text(name), linewidth=2)
            axes.fill_between(band.steps, band.lower, band.upper, color=colour, alpha=0.18)
        axes.axhline(0, color=GREY, linewidth=0.8)
        axes.set_title(text(cell.label))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k")
    for axes in panels[len(cells) :]:
        axes.set_visible(False)
    low = min(axes.get_ylim()[0] for axes in panels[: len(cells)])
    high = max(axes.get_ylim()[1] for axes in panels[: len(cells)])
    for axes in panels[: len(cells)]:
        axes.set_ylim(low, high)
    _legend_beside(figure, panels[columns - 1] if rows == 1 else panels[0])
    figure.supxlabel("completion tokens", fontsize=9)
    figure.supylabel("change since the start, SD of its scores", fontsize=9)
    figure.suptitle("Does gold follow the reward? Where the lines part, read the texts")
    return figure


def _with_root(curve: Curves) -> Curves:
    return Curves(curve.steps, {KL: np.sqrt(np.maximum(curve.values[KL], 0.0))})


def _since_start(curve: Curves, judge: str, spread: float) -> Curves:
    values = curve.values[judge_tag(judge)]
    return Curves(curve.steps, {judge: (values - values[0]) / spread})


def _looks() -> list[dict[str, Any]]:
    """How the lines of one picture look, each colour with three line styles."""
    return [
        {"color": colour, "linestyle": line, "marker": marker, "markersize": 4, "linewidth": 1.8}
        for line, marker in (("-", "o"), ("--", "s"), (":", "^"))
        for colour in COLOURS
    ]


def _role_note(study: Study, judge: str) -> str:
    return {"gold": "\n(gold)", "shadow": "\n(looks on)"}.get(study.judges[judge], "\n")


def _legend_beside(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)


def _figure(
    width: float, height: float, *, rows: int = 1, columns: int = 1
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of its own, without pyplot's global state; sizes in inches."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).tolist()
    for axes in (axes for row in grid for axes in row):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=GREY, alpha=0.2)
    return figure, grid


def _pixels(figure: Figure) -> Pixels:
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def _families() -> list[str]:
    known = set(font_manager.get_font_names())
    return [name for name in FONTS if name in known]


def drawable_label(families: Sequence[str]) -> Label:
    """A function that makes a label of any text.

    What none of the fonts can draw becomes its code point, and `$`, which would begin a formula,
    is one.
    """
    paths = [font_manager.findfont(name) for name in families]
    fonts = [font_manager.get_font(path) for path in paths]

    def is_drawn(character: str) -> bool:
        return any(font.get_char_index(ord(character)) for font in fonts)

    def label(text: str) -> str:
        shown = "".join(c if c == "\n" or is_drawn(c) else f"U+{ord(c):04X}" for c in text)
        return shown.replace("$", r"\$")

    return label
