"""What one gold judge says of a study: each cell's score, its gain, and every pair of cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from textgym.agents.comparison.aggregates import (
    Aggregator,
    interquartile_mean,
    mean,
    paired_difference,
    probability_of_improvement,
)
from textgym.agents.comparison.intervals import Estimate, interval_of
from textgym.agents.comparison.simultaneous import separate_intervals, simultaneous_intervals
from textgym.agents.comparison.study import Floats, Study, scores_of

Scores = Mapping[str, Mapping[int, Floats]]
"""By cell and seed, `[evaluation, prompt]`."""


@dataclass(frozen=True)
class JudgedCell:
    """A cell in the eyes of a judge.

    :param score: at the last evaluation, in the judge's own unit.
    :param gain: from the start to the last evaluation, paired by seed and prompt, in the judge's
        standard deviations over the start's texts. The intervals of all cells hold together.
    :param improvement: the chance that its text scores higher than the start's on a prompt.
    :param best_step: tokens at which the judge's mean was highest.
    """

    cell: str
    seeds: Sequence[int]
    score: Estimate
    gain: Estimate
    improvement: Estimate
    best_step: int


@dataclass(frozen=True)
class JudgedPair:
    """Two cells in the eyes of a judge, over the seeds that both have.

    :param difference: `one` less `other` at the last evaluation, in the judge's standard
        deviations over the start's texts. The intervals of all pairs hold together.
    :param improvement: the chance that a text of `one` scores higher than one of `other` on the
        same prompt.
    """

    one: str
    other: str
    difference: Estimate
    improvement: Estimate


@dataclass(frozen=True)
class Judgement:
    """What a gold judge says.

    :param aggregate: "IQM", or "mean" where half of a cell's scores are one number, of which an
        interquartile mean says nothing.
    :param spread: standard deviation of its scores over the start's texts; 1 where they are equal.
    :param start: the start's score in the judge's own unit; None where cells start differently.
    :param cells: the best first.
    :param pairs: of cells that have a seed in common, the better one first.
    """

    judge: str
    aggregate: str
    spread: float
    start: Estimate | None
    cells: Sequence[JudgedCell]
    pairs: Sequence[JudgedPair]

    def pair(self, one: str, other: str) -> JudgedPair | None:
        """Two cells with `one` first; None where they have no seed in common."""
        for pair in self.pairs:
            if (pair.one, pair.other) == (one, other):
                return pair
            if (pair.one, pair.other) == (other, one):
                return JudgedPair(one, other, _minus(pair.difference), _less(pair.improvement))
        return None

    @property
    def winner(self) -> str | None:
        """The cell whose difference to every other one has an interval above 0; None if none."""
        labels = [cell.cell for cell in self.cells]
        for label in labels:
            pairs = [self.pair(label, other) for other in labels if other != label]
            if pairs and all(pair is not None and pair.difference.low > 0 for pair in pairs):
                return label
        return None

    @property
    def tells_nothing(self) -> bool:
        """Whether every text of a prompt has one score, from the start to the end of all cells."""
        found = [cell.gain for cell in self.cells] + [pair.difference for pair in self.pairs]
        return bool(found) and all(one.low == one.high == 0 for one in found)

    def not_told_apart(self, label: str) -> list[str]:
        """The cells whose difference to this one has an interval with 0 in it, or none at all."""
        others = [cell.cell for cell in self.cells if cell.cell != label]
        pairs = {other: self.pair(label, other) for other in others}
        return [
            other
            for other, pair in pairs.items()
            if pair is None or not pair.difference.excludes_zero
        ]


def judge_study(study: Study, judge: str, scores: Scores | None = None) -> Judgement:
    """What a judge says of the cells that have held-out evaluations.

    :param scores: the judge's; those of the study by default.
    """
    scores = scores_by_cell(study, judge) if scores is None else scores
    name, aggregate = _aggregate(scores)
    spread = start_spread(scores)
    ends = {cell: _at(runs, -1) for cell, runs in scores.items()}
    starts = {cell: _at(runs, 0) for cell, runs in scores.items()}
    gains = separate_intervals(
        [paired_difference(ends[c] / spread, starts[c] / spread, aggregate) for c in scores]
    )
    cells = [
        JudgedCell(
            cell=cell,
            seeds=sorted(scores[cell]),
            score=interval_of(aggregate(ends[cell])),
            gain=gain,
            improvement=_chance(ends[cell], starts[cell]),
            best_step=_best_step(study, cell, scores[cell]),
        )
        for cell, gain in zip(scores, gains, strict=True)
    ]
    start = None
    if scores and not any("policy" in cell.settings for cell in study.cells):
        start = interval_of(aggregate(np.concatenate(list(starts.values()))))
    cells.sort(key=lambda cell: -np.nan_to_num(cell.score.value, nan=-np.inf))
    order = [cell.cell for cell in cells]
    pairs = _pairs({cell: scores[cell] for cell in order}, spread, aggregate)
    return Judgement(judge, name, spread, start, cells, pairs)


def own_gains(study: Study, by_judge: Mapping[str, Scores]) -> dict[str, Estimate]:
    """The gain of every cell by the reward model that it trains on, as `JudgedCell.gain`.

    Of the mean, as that is what training raises. Cells whose reward scored no held-out text are
    left out.

    :param by_judge: the scores of all judges.
    """
    figures = {}
    for cell in study.cells:
        scores = by_judge.get(cell.reward, {})
        if cell.label in scores:
            spread, runs = start_spread(scores), scores[cell.label]
            figures[cell.label] = paired_difference(
                _at(runs, -1) / spread, _at(runs, 0) / spread, mean
            )
    return dict(zip(figures, separate_intervals(list(figures.values())), strict=True))


def scores_by_cell(study: Study, judge: str) -> dict[str, dict[int, Floats]]:
    """A judge's scores of the runs that have held-out evaluations."""
    found: dict[str, dict[int, Floats]] = {}
    for cell in study.cells:
        for run in study.runs_of(cell.label):
            if run.record is not None and run.record.steps:
                found.setdefault(cell.label, {})[run.seed] = scores_of(run, judge)
    return found


def start_spread(scores: Scores) -> float:
    """Standard deviation of the scores of the start's texts; 1 where they are all the same."""
    first = np.array([run[0] for runs in scores.values() for run in runs.values()])
    known = first[~np.isnan(first)]
    spread = float(known.std()) if known.size else 0.0
    return spread if spread > 0 else 1.0


def _pairs(scores: Scores, spread: float, aggregate: Aggregator) -> list[JudgedPair]:
    """All pairs of cells; the first one of a pair stands first in `scores`."""
    labels = list(scores)
    seeds = sorted({seed for runs in scores.values() for seed in runs})
    n_prompts = len(next(iter(next(iter(scores.values())).values()))[0]) if scores else 0
    parts = []
    for runs in scores.values():
        influence = np.full((len(seeds), n_prompts), np.nan)
        influence[[seeds.index(seed) for seed in sorted(runs)]] = aggregate(
            _at(runs, -1) / spread
        ).influence
        parts.append(influence)
    places, figures, chances = [], [], []
    for i, k in combinations(range(len(labels)), 2):
        both = sorted(set(scores[labels[i]]) & set(scores[labels[k]]))
        if both:
            one, other = (_at({s: scores[labels[c]][s] for s in both}, -1) for c in (i, k))
            places.append((i, k))
            figures.append(paired_difference(one / spread, other / spread, aggregate))
            chances.append(_chance(one, other))
    found = simultaneous_intervals(parts, figures, places)
    return [
        JudgedPair(labels[i], labels[k], difference, chance)
        for (i, k), difference, chance in zip(places, found, chances, strict=True)
    ]


def _at(runs: Mapping[int, Floats], evaluation: int) -> Floats:
    """`[seed, prompt]`, in the order of the seeds."""
    return np.array([runs[seed][evaluation] for seed in sorted(runs)])


def _aggregate(scores: Scores) -> tuple[str, Aggregator]:
    """The interquartile mean, unless a cell's middle half is a single number."""
    for runs in scores.values():
        for evaluation in (0, -1):
            values = _at(runs, evaluation)
            ordered = np.sort(values[~np.isnan(values)])
            cut = len(ordered) // 4
            if cut and ordered[cut] == ordered[-cut - 1]:
                return "mean", mean
    return "IQM", interquartile_mean


def _best_step(study: Study, cell: str, runs: Mapping[int, Floats]) -> int:
    n = min(map(len, runs.values()))
    values = np.array([mean(np.array([run[k] for run in runs.values()])).value for k in range(n)])
    steps = [run.record.steps for run in study.runs_of(cell) if run.record and run.record.steps]
    best = int(np.argmax(np.nan_to_num(values, nan=-np.inf)))
    return round(float(np.mean([of_run[best] for of_run in steps])))


def _chance(scores: Floats, others: Floats) -> Estimate:
    return interval_of(probability_of_improvement(scores, others), within=(0.0, 1.0))


def _minus(found: Estimate) -> Estimate:
    return Estimate(-found.value, -found.high, -found.low, found.seeds)


def _less(found: Estimate) -> Estimate:
    return Estimate(1 - found.value, 1 - found.high, 1 - found.low, found.seeds)
