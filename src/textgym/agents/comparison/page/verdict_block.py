"""The verdict as the page draws it: rows with a point and its interval, and figures beside."""

from collections.abc import Mapping
from typing import Any

from textgym.agents.comparison.intervals import Estimate
from textgym.agents.comparison.judgements import JudgedCell, JudgedPair, Judgement
from textgym.agents.comparison.page.run_blocks import short_numbers
from textgym.agents.comparison.study import Study
from textgym.agents.comparison.verdict import Verdict
from textgym.agents.comparison.verdict_tables import (
    cell_table,
    cost_table,
    pair_table,
    with_interval,
)


def verdict_block(study: Study, verdict: Verdict) -> dict[str, Any]:
    """JSON values.

    `judges` has for each gold judge the cells and the pairs as rows of `middle`, `low`, `high` (a
    difference in standard deviations, None where there is none) and texts (`values`, under
    `columns`).
    """
    places = {cell.label: index for index, cell in enumerate(study.cells)}
    costs = cost_table(verdict.costs)
    return {
        "headline": verdict.headline,
        "judges": [_judged(judged, verdict.own, places) for judged in verdict.judgements],
        "costs": {
            "title": costs.title,
            "headers": list(costs.headers),
            "rows": [list(row) for row in costs.rows],
            "note": costs.note,
        },
        "cautions": list(verdict.cautions),
        "markdown": verdict.markdown(),
        "latex": verdict.latex(),
    }


def _judged(
    judged: Judgement, own: Mapping[str, Estimate], places: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "judge": judged.judge,
        "title": f"By the independent judge {judged.judge}",
        "unit": "gain over the start, SD",
        "columns": [
            f"{judged.judge}'s {judged.aggregate}",
            "better than the start",
            "own reward's gain, SD",
            "best at, tokens",
        ],
        "rows": [_cell_row(cell, own, places) for cell in judged.cells],
        "caption": cell_table(judged, own).note,
        "pairUnit": "difference, SD",
        "pairColumns": ["better on a prompt", "told apart"],
        "pairs": [_pair_row(pair, places) for pair in judged.pairs],
        "pairCaption": pair_table(judged).note,
    }


def _cell_row(
    cell: JudgedCell, own: Mapping[str, Estimate], places: Mapping[str, int]
) -> dict[str, Any]:
    gained = own.get(cell.cell)
    return {
        "cell": places[cell.cell],
        **_difference(cell.gain),
        "values": [
            with_interval(cell.score),
            with_interval(cell.improvement),
            "–" if gained is None else with_interval(gained, sign="+"),
            f"{cell.best_step:,}",
        ],
    }


def _pair_row(pair: JudgedPair, places: Mapping[str, int]) -> dict[str, Any]:
    return {
        "cell": places[pair.one],
        "other": places[pair.other],
        **_difference(pair.difference),
        "values": [
            with_interval(pair.improvement),
            "yes" if pair.difference.excludes_zero else "no",
        ],
    }


def _difference(found: Estimate) -> dict[str, float | None]:
    figures = {"middle": found.value, "low": found.low, "high": found.high}
    return {name: short_numbers(float(value)) for name, value in figures.items()}
