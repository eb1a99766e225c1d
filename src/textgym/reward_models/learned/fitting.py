"""Fitting the learned reward model: from ratings or preferences to a report.

The recipe: Muon on the trunk's block matrices, AdamW on the rest, dropout on the mean hidden state.
A step takes one block of rated texts (people who rated the same texts) and all pairs inside it,
each eight times with the label of a random rater of its own; every pass draws new raters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.optimization import build_optimizer
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.comparisons import Row, comparisons, hold_out
from textgym.reward_models.learned.fitting_loop import FitBudget, FitProgress, FittingLoop
from textgym.reward_models.learned.ngrams import NgramBradleyTerry
from textgym.reward_models.learned.pairs import pair_accuracy

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

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line of a printed table; without what is not known."""
        shares = [
            ("held-out pair accuracy", self.pair_accuracy),
            ("n-gram baseline", self.baseline),
            ("rater against rater (ceiling)", self.rater_vs_rater),
            ("rater against the rest", self.rater_vs_rest),
            ("correlation with mean ratings", self.pearson),
        ]
        rows = [(label, f"{value:.3f}") for label, value in shares if value == value]
        rows.append(("held-out pairs", str(self.pairs)))
        if self.heldout_rows:
            held, total = self.heldout_rows, self.heldout_rows + self.training_rows
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


def fit_bradley_terry(
    model: BradleyTerryRewardModel,
    training: Sequence[Row],
    validation: Sequence[Row] | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    epochs: float = 1.0,
    seconds: float | None = None,
    batch_size: int = 16,
    optimizer: str = "muon",
    learning_rate: float = 1e-3,
    muon_learning_rate: float = 0.01,
    evaluations: int = 4,
    patience: int = 2,
    standardise_on: Sequence[str] | None = None,
    progress: Callable[[FitProgress], None] | None = None,
    save: Callable[[Callable[[], dict[str, Any]]], None] | None = None,
    state: dict[str, Any] | None = None,
) -> FitReport:
    """Fit in place, go back to the state with the best held-out pair accuracy, standardise.

    :param training: rated texts (`.text`, `.ratings`, `.block`, maybe `.prompt`) or preferences
        (`.prompt`, `.chosen`, `.rejected`, maybe `.is_tie`), all of one kind.
    :param validation: held-out rows of the same kind; None holds a tenth of `training` out:
        whole blocks and prompts, and near-copies of a text on one side (`textgym.splits`).
    :param steps: optimizer steps at most.
    :param epochs: the budget where `steps` is not given: passes over the training rows.
    :param seconds: wall-clock time at most. The learning rate then follows the clock too, so a seed
        means another model on another machine: prefer steps.
    :param batch_size: texts (without blocks) or preferences per step.
    :param evaluations: held-out evaluations per pass, for early stopping; 0 for none.
    :param patience: evaluations without a better result before it stops.
    :param standardise_on: texts whose scores get mean 0 and standard deviation 1; default: the
        training texts.
    :param progress: called after every step.
    :param save: called after every step with a function that gives the state to go on from.
    :param state: what that function gave: go on from there, to the same end bit by bit (same rows,
        settings, machine and thread count; a budget in steps or passes).
    :raises InputError: if there are no usable pairs, or the rows are of different kinds.
    :raises DivergenceError: if the loss is no longer finite.
    """
    budget = {"steps": steps, "epochs": epochs, "seconds": seconds}
    _check(budget, evaluations, patience, batch_size)
    rng = np.random.default_rng(seed)
    split_note = ""
    if validation is None:
        split = hold_out(training, rng)
        (training, validation), split_note = split.divide(training), split.note
    data, held = comparisons(training), comparisons(validation)
    baseline_pairs = data.pairs(rng)
    held_pairs = held.pairs(rng, draws=8)
    if not held_pairs.is_decided.any():
        raise InputError("no usable held-out pairs: add rows that people decided between")
    baseline = NgramBradleyTerry.fit(data.texts, baseline_pairs)  # also checks the pairs

    def accuracy() -> float:
        return pair_accuracy(model.raw(held.texts), held_pairs)

    model.requires_grad_(True)
    optimizers = build_optimizer(
        model.named_parameters(),
        learning_rate=learning_rate,
        optimizer=optimizer,
        muon_learning_rate=muon_learning_rate,
    )
    loop = FittingLoop(
        model, optimizers, accuracy, seed=seed, batch_size=batch_size, progress=progress, save=save
    )
    if state is not None:
        loop.load_state(state)
    per_pass = data.steps(batch_size)
    every = max(1, per_pass // evaluations) if evaluations else None
    loop.run(data, FitBudget(steps or max(1, round(epochs * per_pass)), seconds, every, patience))
    model.standardise(data.texts if standardise_on is None else standardise_on)
    scores, ceiling = model.raw(held.texts), held.agreement(rng)
    return FitReport(
        pair_accuracy=pair_accuracy(scores, held_pairs),
        baseline=pair_accuracy(baseline.raw(held.texts), held_pairs),
        rater_vs_rater=ceiling.rater_vs_rater,
        rater_vs_rest=ceiling.rater_vs_rest,
        pearson=held.correlation(scores),
        pairs=held_pairs.count_decided(),
        steps=loop.step,
        seconds=loop.seconds,
        stopped_early=loop.stopped_early,
        training_rows=len(training),
        heldout_rows=len(validation),
        cut_texts=model.count_cut([*data.texts, *held.texts]),
        split_note=split_note,
    )


def _check(
    budget: dict[str, float | None], evaluations: int, patience: int, batch_size: int
) -> None:
    check_numbers({**budget, "patience": patience, "batch_size": batch_size})
    if batch_size < 2:
        raise InputError(f"batch_size must be at least 2, got {batch_size}: texts are compared")
    if evaluations < 0:
        raise InputError(f"evaluations must be at least 0, got {evaluations}")
