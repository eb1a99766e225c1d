"""Fitting the learned reward model: from ratings or preferences to a report.

The recipe: Muon on the trunk's block matrices, AdamW on the rest, dropout on the mean hidden state.
A step takes one block of rated texts (people who rated the same texts) and all pairs inside it,
each eight times with the label of a random rater of its own; every pass draws new raters.
"""

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.optimization import build_optimizer, cosine_with_warmup
from textgym.reward_models.bradley_terry import BradleyTerryRewardModel, bradley_terry_loss
from textgym.reward_models.comparisons import Comparisons, Row, comparisons, hold_out
from textgym.reward_models.ngrams import NgramBradleyTerry
from textgym.reward_models.pairs import pair_accuracy

FEW_PAIRS = 50  # an accuracy of so many is known to .14


@dataclass(frozen=True)
class FitProgress:
    """Where a fit stands.

    :param done: share of the work, 0 to 1.
    :param loss: of the last step; about .69 is a coin's toss.
    :param accuracy: last held-out pair accuracy; NaN before the first.
    """

    step: int
    done: float
    loss: float
    accuracy: float


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
) -> FitReport:
    """Fit in place, go back to the state with the best held-out pair accuracy, standardise.

    :param training: rated texts (`.text`, `.ratings`, `.block`, maybe `.prompt`) or preferences
        (`.prompt`, `.chosen`, `.rejected`, maybe `.is_tie`), all of one kind.
    :param validation: held-out rows of the same kind; None holds a tenth of `training` out:
        whole blocks and prompts, and near-copies of a text on one side (`textgym.splits`).
    :param epochs: passes over the training rows.
    :param seconds: stop after so long at the latest; the learning rate then follows the clock, so
        two runs are not equal to the last digit.
    :param batch_size: texts (without blocks) or preferences per step.
    :param evaluations: held-out evaluations per pass, for early stopping; 0 for none.
    :param patience: evaluations without a better result before it stops.
    :param standardise_on: texts whose scores get mean 0 and standard deviation 1; default: the
        training texts.
    :param progress: called after every step.
    :raises InputError: if there are no usable pairs, or the rows are of different kinds.
    """
    _check(epochs, seconds, evaluations, patience, batch_size)
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

    start = time.monotonic()
    loop = _Loop(model, accuracy, evaluations, patience, progress)
    loop.build(optimizer, learning_rate, muon_learning_rate, seed)
    loop.run(data, rng, epochs=epochs, seconds=seconds, batch_size=batch_size)
    took = time.monotonic() - start
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
        seconds=took,
        stopped_early=loop.stopped_early,
        training_rows=len(training),
        heldout_rows=len(validation),
        cut_texts=model.count_cut([*data.texts, *held.texts]),
        split_note=split_note,
    )


def _check(
    epochs: float, seconds: float | None, evaluations: int, patience: int, batch_size: int
) -> None:
    check_numbers(
        {"epochs": epochs, "seconds": seconds, "patience": patience, "batch_size": batch_size}
    )
    if batch_size < 2:
        raise InputError(f"batch_size must be at least 2, got {batch_size}: texts are compared")
    if evaluations < 0:
        raise InputError(f"evaluations must be at least 0, got {evaluations}")


class _Loop:
    """The training loop and what it remembers: the best state so far, and when it was."""

    def __init__(
        self,
        model: BradleyTerryRewardModel,
        accuracy: Callable[[], float],
        evaluations: int,
        patience: int,
        progress: Callable[[FitProgress], None] | None,
    ) -> None:
        self.model, self.accuracy, self.progress = model, accuracy, progress
        self.evaluations, self.patience = evaluations, patience
        self.step, self.stopped_early = 0, False
        self.latest = self.best = float("nan")
        self.best_state: dict[str, torch.Tensor] | None = None
        self.without_gain = 0

    def build(
        self, optimizer: str, learning_rate: float, muon_learning_rate: float, seed: int
    ) -> None:
        """Make the optimizer, and the generator of the dropout."""
        self.model.requires_grad_(True)
        self.optimizer = build_optimizer(
            self.model.named_parameters(),
            learning_rate=learning_rate,
            optimizer=optimizer,
            muon_learning_rate=muon_learning_rate,
        )
        self.generator = torch.Generator().manual_seed(seed)

    def run(
        self,
        data: Comparisons,
        rng: np.random.Generator,
        *,
        epochs: float,
        seconds: float | None,
        batch_size: int,
    ) -> None:
        """Steps until the passes or the seconds are over, or the held-out pairs say stop."""
        start = time.monotonic()
        per_epoch = data.steps(batch_size)
        total = max(1, round(epochs * per_epoch))
        every = max(1, per_epoch // self.evaluations) if self.evaluations else total + 1
        batches = iter(data.batches(rng, batch_size))
        self.model.eval()  # a trunk's own dropout would draw from the global generator
        done = 0.0
        while done < 1.0 and not self.stopped_early:
            batch = next(batches, None)
            if batch is None:
                batches = iter(data.batches(rng, batch_size))
                continue
            self.optimizer.set_learning_rate_factor(cosine_with_warmup(done + 0.5 / total))
            loss = self._update(batch)
            self.step += 1
            elapsed = 0.0 if seconds is None else (time.monotonic() - start) / max(seconds, 1e-9)
            done = min(1.0, max(self.step / total, elapsed))
            if self.step % every == 0 or (self.evaluations and done >= 1.0):
                self._evaluate()
            if self.progress is not None:
                self.progress(FitProgress(self.step, done, loss, self.latest))
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)

    def _update(self, batch: Comparisons.Batch) -> float:
        """One optimizer step; returns the loss."""
        rows = self.model.encode(batch.texts)
        with torch.enable_grad():
            scores = self.model.forward(*self.model.batch(rows), generator=self.generator)
            device = scores.device
            first, second, label = (
                torch.from_numpy(part).to(device)
                for part in (batch.pairs.first, batch.pairs.second, batch.pairs.label)
            )
            loss = bradley_terry_loss(scores[first], scores[second], label)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return float(loss.detach())

    def _evaluate(self) -> None:
        """Held-out pair accuracy now; keep the state if it is the best so far."""
        self.latest = self.accuracy()
        if not self.latest <= self.best:  # also the first, when the best is NaN
            self.best, self.without_gain = self.latest, 0
            self.best_state = copy.deepcopy(self.model.state_dict())
        else:
            self.without_gain += 1
            self.stopped_early = self.without_gain >= self.patience
