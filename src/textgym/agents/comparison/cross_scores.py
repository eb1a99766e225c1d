"""The cross-score matrix: what training on one judge did to the scores of every judge."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textgym.agents.comparison.aggregates import mean
from textgym.agents.comparison.intervals import interval_of
from textgym.agents.comparison.judgements import scores_by_cell, start_spread
from textgym.agents.comparison.study import Cell, Floats, Study, StudyRun


@dataclass(frozen=True)
class CrossScores:
    """Change of every judge's score from the start to the last evaluation, by cell.

    In standard deviations of the judge's scores over the start's texts, with 95% intervals over
    seeds and prompts (over prompts alone with a single seed).

    :param cells: those whose own reward rose most beyond the gold judges first.
    :param judges: in the order of the cells that train on them, then the others, gold ones last.
    :param mean, lower, upper: `[cell, judge]`.
    :param excess: `[cell]`, change of the own reward − mean change of the gold judges.
    """

    cells: Sequence[Cell]
    judges: Sequence[str]
    mean: Floats
    lower: Floats
    upper: Floats
    excess: Floats


def cross_scores(study: Study) -> CrossScores | None:
    """The matrix of a study; None where no run has held-out evaluations."""
    cells = [cell for cell in study.cells if any(run.record for run in study.runs_of(cell.label))]
    names = list(study.judges)
    if not cells or not names:
        return None
    spreads = {judge: judge_spread(study, judge) for judge in names}
    found = {
        (cell.label, judge): interval_of(mean(changes(study, cell, judge, spreads[judge])))
        for cell in cells
        for judge in names
    }

    def excess(cell: Cell) -> float:
        gold = [found[cell.label, judge].value for judge in study.gold()]
        own = found[cell.label, cell.reward].value if cell.reward in names else np.nan
        return own - float(np.mean(gold)) if gold else np.nan

    cells.sort(key=lambda cell: (np.isnan(excess(cell)), -np.nan_to_num(excess(cell))))
    own = [cell.reward for cell in cells if cell.reward in names]
    looking_on = [name for name in names if study.judges[name] != "gold"]
    judges = list(dict.fromkeys([*own, *looking_on, *study.gold()]))
    matrix = [[found[cell.label, judge] for judge in judges] for cell in cells]
    return CrossScores(
        cells,
        judges,
        np.array([[entry.value for entry in row] for row in matrix]),
        np.array([[entry.low for entry in row] for row in matrix]),
        np.array([[entry.high for entry in row] for row in matrix]),
        np.array([excess(cell) for cell in cells]),
    )


def changes(study: Study, cell: Cell, judge: str, spread: float) -> Floats:
    """`[seed, prompt]`, a cell's last score − its first one.

    :param spread: the unit, such as the judge's `judge_spread`.
    """
    runs = [run for run in study.runs_of(cell.label) if run.record]
    return np.array([_scores(run, -1, judge) - _scores(run, 0, judge) for run in runs]) / spread


def judge_spread(study: Study, judge: str) -> float:
    """Standard deviation of a judge's scores over the start's texts of all runs.

    1 where they are all the same, so that a difference keeps the judge's own unit.
    """
    return start_spread(scores_by_cell(study, judge))


def _scores(run: StudyRun, evaluation: int, judge: str) -> Floats:
    """Scores of one evaluation, `[prompt]`; NaN where the judge says nothing."""
    assert run.record is not None
    texts = run.record.texts[run.record.steps[evaluation]]
    return np.array([text.scores.get(judge) for text in texts], dtype=np.float64)
