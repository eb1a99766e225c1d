"""How two runs differ, as a terminal shows it: tables, and texts with a word diff."""

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from textgym.agents.comparison.difference import RunDifference
from textgym.terminal import visible
from textgym.text_metrics.word_diff import Kind, word_diff

_STYLES: dict[Kind, str] = {"same": "", "removed": "red strike", "added": "green underline"}
_MARKS: dict[Kind, tuple[str, str]] = {
    "same": ("", ""),
    "removed": ("[-", "-]"),
    "added": ("{+", "+}"),
}


def show_difference(difference: RunDifference, *, samples: int, console: Console) -> None:
    """Print settings, figures, scores and the `samples` most different texts of two runs."""
    for table in (_settings(difference), _figures(difference), _scores(difference)):
        if table is not None:
            console.print(table)
    _show_texts(difference, samples, console)
    for note in difference.notes:
        console.print(Text(f"note: {visible(note)}"))


def _settings(difference: RunDifference) -> Table | None:
    if not difference.settings:
        return None
    table = _table(difference, "settings that differ", "setting")
    for row in difference.settings:
        table.add_row(*(Text(visible("–" if t is None else t)) for t in (row.name, row.a, row.b)))
    return table


def _figures(difference: RunDifference) -> Table | None:
    if not difference.figures:
        return None
    table = _table(difference, "last figures of the training", "figure")
    table.add_column("difference", justify="right")
    table.add_column("better")
    for row in difference.figures:
        values = (_number(row.a), _number(row.b), _signed(row.b - row.a))
        table.add_row(Text(visible(row.title)), *values, row.better)
    return table


def _scores(difference: RunDifference) -> Table | None:
    if not difference.scores:
        return None
    table = _table(difference, "held-out scores at the end", "judge")
    table.add_column("difference [95% over prompts]", justify="right")
    for row in difference.scores:
        ends = "" if math.isnan(row.low) else f" [{_signed(row.low)}, {_signed(row.high)}]"
        name = Text(visible(f"{row.judge} ({row.role})"))
        table.add_row(name, _number(row.a), _number(row.b), _signed(row.difference) + ends)
    return table


def _table(difference: RunDifference, title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(first)
    for name, step in zip(difference.names, difference.steps, strict=True):
        table.add_column(Text(visible(f"{name} at {step:,}")), overflow="fold")
    return table


def _show_texts(difference: RunDifference, samples: int, console: Console) -> None:
    pairs = [pair for pair in difference.texts if pair.a != pair.b][: max(0, samples)]
    if not difference.texts or not samples:
        return
    has_colours = console.color_system is not None
    by = f"by {difference.judge}" if difference.judge else "by their words"
    if not pairs:
        console.print(Text("both runs wrote the same on every prompt"))
        return
    legend = Text(f"the most different texts, {visible(by)}: ")
    kinds: tuple[Kind, Kind] = ("removed", "added")
    for kind, name in zip(kinds, difference.names, strict=True):
        legend.append_text(_marked(kind, name, has_colours=has_colours)).append(" ")
    console.print(legend.append("\n"))
    for pair in pairs:
        scores = ""
        if pair.score_a is not None and pair.score_b is not None:
            scores = f"  ({_number(pair.score_a)} → {_number(pair.score_b)})"
        console.print(Text(visible(pair.prompt), style="bold").append(scores, style="not bold"))
        console.print(diff_text(pair.a, pair.b, has_colours=has_colours))
        console.print()


def diff_text(before: str, after: str, *, has_colours: bool) -> Text:
    """Two texts as one: what only the first has, what only the second has.

    :param has_colours: else they are marked, [-so-] and {+so+}, as `git diff --word-diff` does.
    """
    text = Text()
    for kind, part in word_diff(before, after):
        text.append_text(_marked(kind, part, has_colours=has_colours))
    return text


def _marked(kind: Kind, part: str, *, has_colours: bool) -> Text:
    opening, closing = ("", "") if has_colours else _MARKS[kind]
    return Text(f"{opening}{visible(part)}{closing}", style=_STYLES[kind])


def _number(value: float, sign: str = "") -> str:
    if math.isnan(value):
        return "–"
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.4g}"


def _signed(value: float) -> str:
    return _number(value, "+")
