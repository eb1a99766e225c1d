"""The tables of a verdict: one list of columns for each, whatever they are shown in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.agents.comparison.costs import Costs
from textgym.agents.comparison.intervals import Estimate
from textgym.agents.comparison.judgements import Judgement
from textgym.agents.comparison.table_formats import Table

NOTHING = "-"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    :param text: of a row's object.
    """

    title: str
    text: Callable[[Any], str]


def cell_table(judgement: Judgement, own: Mapping[str, Estimate]) -> Table:
    """A judge's scores of the cells, the best first, and the start's.

    :param own: the gain of each cell by the reward that it trains on.
    """
    columns: list[Column] = [
        Column("cell", lambda cell: str(cell.cell)),
        Column(judgement.aggregate, lambda cell: with_interval(cell.score)),
        Column("gain, SD", lambda cell: with_interval(cell.gain, sign="+")),
        Column("better than the start", lambda cell: with_interval(cell.improvement)),
        Column("own reward's gain, SD", lambda cell: _or_nothing(own.get(cell.cell))),
        Column("best at, tokens", lambda cell: f"{cell.best_step:,}"),
        Column("seeds", lambda cell: str(len(cell.seeds))),
    ]
    rows = _rows(columns, judgement.cells)
    if judgement.start is not None:
        start = ["start", with_interval(judgement.start)]
        rows.append([*start, *[NOTHING] * (len(columns) - len(start))])
    note = (
        "With 95% intervals over seeds and prompts; those of the gains hold together. Gains are "
        "paired by seed and prompt, in standard deviations of the judge's scores of the start's "
        "texts. Best at: where the judge's mean was highest, an audit made afterwards and not an "
        "early warning."
    )
    return Table(f"By the gold judge {judgement.judge}", _titles(columns), rows, note)


def pair_table(judgement: Judgement, *, most: int | None = None) -> Table:
    """Every pair of cells, the better one first.

    :param most: of the pairs that are shown; all by default.
    """
    columns: list[Column] = [
        Column("first", lambda pair: str(pair.one)),
        Column("second", lambda pair: str(pair.other)),
        Column("difference, SD", lambda pair: with_interval(pair.difference, sign="+")),
        Column("told apart", lambda pair: "yes" if pair.difference.excludes_zero else "no"),
        Column("better on a prompt", lambda pair: with_interval(pair.improvement)),
        Column("seeds of both", lambda pair: str(pair.difference.seeds)),
    ]
    note = (
        "Differences are paired by seed and prompt; their 95% intervals hold together over all "
        "pairs. Better on a prompt: the chance that a text of the first scores higher than one of "
        "the second, by itself."
    )
    left_out = 0 if most is None else max(0, len(judgement.pairs) - most)
    if left_out:
        note = f"{left_out} more pairs stand in the report. {note}"
    rows = _rows(columns, judgement.pairs[:most])
    return Table(f"Differences by {judgement.judge}", _titles(columns), rows, note)


def cost_table(costs: Sequence[Costs]) -> Table:
    """What the gains were paid with."""
    columns: list[Column] = [
        Column("cell", lambda cell: str(cell.cell)),
        Column("KL, nats per text", lambda cell: f"{cell.kl:.2f}"),
        Column("perplexity ratio", lambda cell: f"{cell.perplexity_ratio:.2f}"),
        Column("distinct-2", lambda cell: f"{cell.distinct_2:.3f}"),
        Column("start's distinct-2", lambda cell: f"{cell.distinct_2_start:.3f}"),
        Column("length, tokens", lambda cell: f"{cell.length:.1f}"),
        Column("start's length", lambda cell: f"{cell.length_start:.1f}"),
        Column("tokens/s", lambda cell: _number(cell.tokens_per_second, "{:,.0f}")),
        Column("wall time, s", lambda cell: _number(cell.seconds, "{:,.0f}")),
    ]
    note = (
        "At the last evaluation, means over the seeds. The perplexity is that of the texts under "
        "the start, over that of the start's own texts; tokens/s and wall time are a run's."
    )
    return Table("What it cost", _titles(columns), _rows(columns, costs), note)


def with_interval(found: Estimate, *, sign: str = "") -> str:
    """A figure with its interval, such as "+0.31 [+0.20, +0.42]"."""
    if np.isnan(found.value):
        return NOTHING
    value = f"{found.value:{sign}.2f}"
    if np.isnan(found.low):
        return value
    return f"{value} [{found.low:{sign}.2f}, {found.high:{sign}.2f}]"


def _or_nothing(found: Estimate | None) -> str:
    return NOTHING if found is None else with_interval(found, sign="+")


def _number(value: float | None, pattern: str) -> str:
    return NOTHING if value is None else pattern.format(value)


def _titles(columns: Sequence[Column]) -> list[str]:
    return [column.title for column in columns]


def _rows(columns: Sequence[Column], objects: Sequence[Any]) -> list[list[str]]:
    return [[column.text(row) for column in columns] for row in objects]
