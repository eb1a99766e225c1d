"""Fitting a reward model with its trunk: from ratings or preferences to a report.

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
from textgym.reward_models.learned.comparisons import (
    Comparisons,
    Row,
    comparisons,
    hold_out,
)
from textgym.reward_models.learned.fit_report import FitReport, HeldOut
from textgym.reward_models.learned.fitting_loop import FitBudget, FitProgress, FittingLoop
from textgym.reward_models.learned.ngrams import NgramBradleyTerry
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel

CHOSEN_ON_HELD_OUT = (
    "note: too few rows to hold more out: the best state was chosen on the held-out pairs, which "
    "flatters them a little"
)


def fit_reward_model(
    model: TrunkRewardModel,
    training: Sequence[Row],
    validation: Sequence[Row] | None = None,
    *,
    choice: Sequence[Row] | None = None,
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
    """Fit in place, go back to the state with the best pair accuracy, standardise, report.

    :param training: rated texts (`.text`, `.ratings`, `.block`, maybe `.prompt`) or preferences
        (`.prompt`, `.chosen`, `.rejected`, maybe `.is_tie`), all of one kind.
    :param validation: held-out rows of the same kind; None holds a tenth of `training` out:
        whole blocks and prompts, and near-copies of a text on one side (`textgym.splits`).
    :param choice: rows by which the best state is chosen, and the fit is stopped early; None holds
        another tenth out where `validation` is None, and takes the validation rows where they are
        given.
    :param steps: optimizer steps at most.
    :param epochs: the budget where `steps` is not given: passes over the training rows.
    :param seconds: wall-clock time at most. The learning rate then follows the clock too, so a seed
        means another model on another machine: prefer steps.
    :param batch_size: texts (without blocks) or preferences per step.
    :param evaluations: evaluations per pass on `choice`, for early stopping; 0 for none.
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
    fold = divide(training, validation, choice, rng, needs_choice=evaluations > 0)
    data, held = comparisons(fold.training), comparisons(fold.validation)
    baseline_pairs = data.pairs(rng)
    held_out = held_out_pairs(held, rng)
    chooser = held_out if fold.choice is None else held_out_pairs(comparisons(fold.choice), rng)
    baseline = NgramBradleyTerry.fit(data.texts, baseline_pairs)  # also checks the pairs

    def accuracy() -> float:
        return chooser.accuracy(model.raw(chooser.data.texts))

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
    return held_out.report(
        model.raw(held.texts),
        model.objective,
        baseline,
        rng,
        steps=loop.step,
        seconds=loop.seconds,
        stopped_early=loop.stopped_early,
        training_rows=data.n_rows,
        choice_rows=len(fold.choice or ()),
        cut_texts=model.count_cut([*data.texts, *held.texts]),
        split_note=fold.note,
    )


fit_bradley_terry = fit_reward_model  # its name while Bradley-Terry was the only objective


@dataclass(frozen=True)
class Fold:
    """Rows to learn from, to report on, and to choose by (None: those to report on)."""

    training: Sequence[Row]
    validation: Sequence[Row]
    choice: Sequence[Row] | None
    note: str


def divide(
    training: Sequence[Row],
    validation: Sequence[Row] | None,
    choice: Sequence[Row] | None,
    rng: np.random.Generator,
    *,
    needs_choice: bool,
) -> Fold:
    """What is not given is held out of the training rows, a tenth each; see `hold_out`.

    :raises InputError: if nothing can be held out.
    """
    if validation is not None:
        return Fold(training, validation, choice, "")
    split = hold_out(training, rng)
    (training, validation), note = split.divide(training), split.note
    if choice is None and needs_choice:
        try:
            training, choice = hold_out(training, rng).divide(training)
        except InputError:
            note = "\n".join(filter(None, [note, CHOSEN_ON_HELD_OUT]))
    return Fold(training, validation, choice, note)


def held_out_pairs(held: Comparisons, rng: np.random.Generator) -> HeldOut:
    """Held-out rows with eight draws of raters.

    :raises InputError: if nobody decided between any two of them.
    """
    pairs = held.pairs(rng, draws=8)
    if not pairs.is_decided.any():
        raise InputError("no usable held-out pairs: add rows that people decided between")
    return HeldOut(held, pairs)


def _check(
    budget: dict[str, float | None], evaluations: int, patience: int, batch_size: int
) -> None:
    check_numbers({**budget, "patience": patience, "batch_size": batch_size})
    if batch_size < 2:
        raise InputError(f"batch_size must be at least 2, got {batch_size}: texts are compared")
    if evaluations < 0:
        raise InputError(f"evaluations must be at least 0, got {evaluations}")
