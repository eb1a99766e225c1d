"""What is told of a fitted reward model: held-out figures, and what to compare them with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textgym.reward_models.learned.calibration import (
    Bin,
    accuracy_interval,
    calibration_error,
    length_correlation,
    overlap_correlation,
    reliability,
)
from textgym.reward_models.learned.comparisons import Comparisons
from textgym.reward_models.learned.ngrams import NgramBradleyTerry
from textgym.reward_models.learned.objectives import Objective
from textgym.reward_models.learned.pairs import Pairs, pair_accuracy

FEW_PAIRS = 50  # an accuracy of so many is known to .14


@dataclass(frozen=True)
class FitReport:
    """How good a fitted reward model is, beside what it should be compared with.

    :param pair_accuracy: share of held-out decided pairs that it ranks as people did.
    :param baseline: the same for a linear n-gram model fitted on the same training pairs.
    :param rater_vs_rater: how often two people agree: the ceiling; NaN for preferences.
    :param rater_vs_rest: how often one person agrees with all the others; NaN for preferences.
    :param pearson: correlation with held-out mean ratings; NaN for preferences.
    :param pairs: different pairs of texts behind the accuracies (each may be judged several times).
    :param training_rows: rows that were learned from.
    :param heldout_rows: rows behind the held-out figures.
    :param cut_texts: texts, of both, whose beginnings exceed the trunk's context and were not read.
    :param split_note: what had to be done to hold rows out, if it was not all that was wanted.
    :param choice_rows: rows that only said when to stop.
    :param low, high: 95% interval of `pair_accuracy`, see `accuracy_interval`.
    :param calibration_error: expected calibration error over held-out pairs.
    :param length_correlation: Spearman's, of held-out scores with words.
    :param overlap_correlation: Spearman's, with the share of words that stand in the prompt; NaN
        without prompts.
    :param reliability: the bins behind `calibration_error`.
    :param learning_curve: labels that were learned from, and the held-out pair accuracy with them.
    """

    pair_accuracy: float
    baseline: float
    rater_vs_rater: float
    rater_vs_rest: float
    pearson: float
    pairs: int
    steps: int
    seconds: float
    stopped_early: bool
    training_rows: int = 0
    heldout_rows: int = 0
    cut_texts: int = 0
    split_note: str = ""
    choice_rows: int = 0
    low: float = math.nan
    high: float = math.nan
    calibration_error: float = math.nan
    length_correlation: float = math.nan
    overlap_correlation: float = math.nan
    reliability: tuple[Bin, ...] = ()
    learning_curve: tuple[tuple[int, float], ...] = ()

    def figures(self) -> dict[str, float | str]:
        """The single numbers by name."""
        return {k: v for k, v in vars(self).items() if isinstance(v, int | float | str)}

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line of a printed table; without what is not known."""
        shares = [
            ("held-out pair accuracy", self.pair_accuracy),
            ("  95% interval from", self.low),
            ("  95% interval to", self.high),
            ("n-gram baseline", self.baseline),
            ("rater against rater (ceiling)", self.rater_vs_rater),
            ("rater against the rest", self.rater_vs_rest),
            ("correlation with mean ratings", self.pearson),
            ("expected calibration error", self.calibration_error),
            ("correlation with length", self.length_correlation),
            ("correlation with prompt overlap", self.overlap_correlation),
        ]
        rows = [(label, f"{value:.3f}") for label, value in shares if value == value]
        rows.append(("held-out pairs", str(self.pairs)))
        if self.heldout_rows:
            held = self.heldout_rows
            total = held + self.training_rows + self.choice_rows
            rows.append(("held-out rows", f"{held} of {total}"))
        return [*rows, ("steps", str(self.steps))]

    def notes(self) -> list[str]:
        """A line for each thing that a reader of the figures must know."""
        notes = [self.split_note] if self.split_note else []
        if self.pairs < FEW_PAIRS:
            spread = 0.98 / max(1, self.pairs) ** 0.5  # 1.96 standard deviations of a coin
            notes.append(
                f"note: only {self.pairs} held-out pairs: the accuracies are known to ± "
                f"{spread:.2f}; add judgements before you rely on them"
            )
        if self.cut_texts:
            notes.append(
                f"note: {self.cut_texts} texts are longer than the model's context: only their "
                "ends were read; shorten them or take a model with a longer context"
            )
        return notes


class HeldOut:
    """Held-out rows, and everything that is measured on them; the same pairs for every model.

    :param data: the held-out rows.
    :param pairs: comparisons of them.
    """

    def __init__(self, data: Comparisons, pairs: Pairs) -> None:
        self.data, self.pairs = data, pairs

    def accuracy(self, scores: Sequence[float] | np.ndarray) -> float:
        """Pair accuracy of scores [texts]."""
        return pair_accuracy(scores, self.pairs)

    def report(
        self,
        scores: np.ndarray,
        objective: Objective,
        baseline: NgramBradleyTerry,
        rng: np.random.Generator,
        *,
        steps: int,
        seconds: float,
        stopped_early: bool = False,
        training_rows: int = 0,
        choice_rows: int = 0,
        cut_texts: int = 0,
        split_note: str = "",
        learning_curve: Sequence[tuple[int, float]] = (),
    ) -> FitReport:
        """The report on raw scores [texts].

        :param rng: draws raters for the ceiling.
        """
        ceiling, pairs, data = self.data.agreement(rng), self.pairs, self.data
        bins = reliability(
            objective.win_probability(scores[pairs.first], scores[pairs.second]), pairs
        )
        low, high = accuracy_interval(scores, pairs, data.groups)
        return FitReport(
            pair_accuracy=self.accuracy(scores),
            baseline=self.accuracy(baseline.raw(data.texts)),
            rater_vs_rater=ceiling.rater_vs_rater,
            rater_vs_rest=ceiling.rater_vs_rest,
            pearson=data.correlation(scores),
            pairs=pairs.count_decided(),
            steps=steps,
            seconds=seconds,
            stopped_early=stopped_early,
            training_rows=training_rows,
            heldout_rows=data.n_rows,
            choice_rows=choice_rows,
            cut_texts=cut_texts,
            split_note=split_note,
            low=low,
            high=high,
            calibration_error=calibration_error(bins),
            length_correlation=length_correlation(scores, data.completions),
            overlap_correlation=overlap_correlation(scores, data.prompts, data.completions),
            reliability=bins,
            learning_curve=tuple(learning_curve),
        )
