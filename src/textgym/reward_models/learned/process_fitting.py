"""Fitting a process reward model to judged steps, and what is told of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.optimization import build_optimizer
from textgym.reward_models.learned.calibration import (
    calibration_error,
    reliability,
)
from textgym.reward_models.learned.fitting_loop import FitBudget, FitProgress, FittingLoop
from textgym.reward_models.learned.pairs import Pairs
from textgym.reward_models.learned.process import ProcessRewardModel, Stepped, SteppedTexts
from textgym.reward_models.pair_accuracy import clustered_interval
from textgym.splits import split_rows


@dataclass(frozen=True)
class ProcessReport:
    """How good a process reward model is on held-out rows.

    :param step_accuracy: share of steps that it calls as people did.
    :param low, high: 95% interval, by drawing whole rows again.
    :param majority: share that always saying the commoner answer of the training rows would reach.
    :param calibration_error: expected calibration error of the steps' probabilities.
    :param judged_steps: held-out steps.
    """

    step_accuracy: float
    low: float
    high: float
    majority: float
    calibration_error: float
    judged_steps: int
    steps: int
    seconds: float
    stopped_early: bool
    training_rows: int
    heldout_rows: int
    split_note: str = ""

    def figures(self) -> dict[str, float | str]:
        """The single numbers by name."""
        return dict(vars(self))

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line of a printed table."""
        return [
            ("held-out step accuracy", f"{self.step_accuracy:.3f}"),
            ("  95% interval", f"{self.low:.3f} to {self.high:.3f}"),
            ("the commoner answer", f"{self.majority:.3f}"),
            ("expected calibration error", f"{self.calibration_error:.3f}"),
            ("held-out steps", str(self.judged_steps)),
            ("steps", str(self.steps)),
        ]

    def notes(self) -> list[str]:
        """A line for each thing that a reader of the figures must know."""
        return [self.split_note] if self.split_note else []


def fit_process(
    model: ProcessRewardModel,
    training: Sequence[Stepped],
    validation: Sequence[Stepped] | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    epochs: float = 1.0,
    batch_size: int = 16,
    optimizer: str = "muon",
    learning_rate: float = 1e-3,
    muon_learning_rate: float = 0.01,
    progress: Callable[[FitProgress], None] | None = None,
    save: Callable[[Callable[[], dict[str, Any]]], None] | None = None,
    state: dict[str, Any] | None = None,
) -> ProcessReport:
    """Fit in place and report; nothing is chosen on the held-out rows.

    :param validation: held-out rows; None holds a tenth out, rows of a prompt on one side.
    :param steps: optimizer steps; default: `epochs` passes over the rows.
    :param save, state, progress: as `fit_reward_model` takes them.
    :raises InputError: if the rows cannot be divided, or all steps are judged alike.
    :raises DivergenceError: if the loss is no longer finite.
    """
    check_numbers({"steps": steps, "epochs": epochs, "batch_size": batch_size})
    note = ""
    if validation is None:
        split = split_rows(
            [row.prompt for row in training],
            [tuple(row.steps) for row in training],
            0.1,
            np.random.default_rng(seed),
            by_prompt=True,
        )
        (training, validation), note = split.divide(training), split.note
    data, held = SteppedTexts(model, training), SteppedTexts(model, validation)
    goal = data.labels()
    if not np.ptp(goal) > 0:
        raise InputError("all steps are judged alike: nothing can be learned, add the others")
    model.requires_grad_(True)
    optimizers = build_optimizer(
        model.named_parameters(),
        learning_rate=learning_rate,
        optimizer=optimizer,
        muon_learning_rate=muon_learning_rate,
    )
    loop = FittingLoop(
        model, optimizers, lambda: np.nan, seed=seed, batch_size=batch_size, progress=progress,
        save=save,
    )  # fmt: skip
    if state is not None:
        loop.load_state(state)
    total = steps or max(1, round(epochs * data.steps(batch_size)))
    loop.run(data, FitBudget(total, None, None, 1))
    return _report(data, held, loop, note)


def _report(data: SteppedTexts, held: SteppedTexts, loop: FittingLoop, note: str) -> ProcessReport:
    """Each held-out step as a pair with a sure toss of a coin: better than it or worse."""
    logits, labels = held.logits(), held.labels()
    n = len(logits)
    against_coin = Pairs(np.arange(n), np.full(n, n), labels)
    bins = reliability(1 / (1 + np.exp(-logits)), against_coin)
    rows = np.repeat(np.arange(len(held.rows)), [len(row) for row in held.whole.labels])
    is_decided, is_good = labels != 0.5, labels > 0.5
    hits = ((logits > 0) == is_good)[is_decided]
    usual = bool(np.mean(data.labels()) >= 0.5)
    low, high = clustered_interval(hits.astype(np.float64), rows[is_decided])
    return ProcessReport(
        step_accuracy=float(hits.mean()) if len(hits) else float("nan"),
        low=low,
        high=high,
        majority=float((is_good == usual)[is_decided].mean()) if len(hits) else float("nan"),
        calibration_error=calibration_error(bins),
        judged_steps=len(hits),
        steps=loop.step,
        seconds=loop.seconds,
        stopped_early=loop.stopped_early,
        training_rows=len(data.rows),
        heldout_rows=len(held.rows),
        split_note=note,
    )
