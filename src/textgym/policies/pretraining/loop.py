"""Next-token training: pretraining on texts, fine-tuning on prompt-completion pairs.

One loop serves both; what is learned is decided by the documents. The budget is steps, seconds or
both, and the learning rate follows whichever is further along.
"""

import contextlib
import functools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from textgym.checks import check_numbers
from textgym.directories import holds
from textgym.divergence import LARGEST_WEIGHT, check_weights
from textgym.errors import DivergenceError, InputError
from textgym.interrupts import deferred_interrupt
from textgym.optimization import Optimizers, build_optimizer, cosine_with_warmup
from textgym.paths import absolute
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.pretraining.documents import Batch, Document, batches
from textgym.policies.pretraining.objective import NextTokens, Objective
from textgym.run_files import BEST, LAST, PREVIOUS


@dataclass
class TrainingReport:
    """What a training did.

    :param steps: optimizer steps.
    :param tokens: tokens read, context included.
    :param losses: mean loss in nats per learned token, one per evaluation interval.
    :param heldout: `(step, nats per token)` of each evaluation.
    :param best_step: the step whose weights the model ends with.
    :param diverged: what was no longer finite and what to lower; empty if nothing diverged. Only
        the verbs report it so; `train_language_model` raises.
    """

    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    heldout: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    stopped_early: bool = False
    interrupted: bool = False
    diverged: str = ""

    @classmethod
    def from_saved(cls, fields: dict[str, Any]) -> "TrainingReport":
        """The report of a checkpoint, from which the training goes on.

        :raises ValueError, TypeError: if it is none.
        """
        report = cls(**fields)
        counts = (report.steps, report.tokens, report.best_step)
        figures = [report.seconds, *report.losses, *(loss for _, loss in report.heldout)]
        whole = [*counts, *(step for step, _ in report.heldout)]
        if not all(type(count) is int and count >= 0 for count in whole):
            raise ValueError("its counts are no whole numbers")
        if not all(isinstance(figure, int | float) for figure in figures):
            raise ValueError("its figures are no numbers")
        report.interrupted = report.stopped_early = False
        return report

    @property
    def perplexity(self) -> float:
        """Held-out perplexity per token of the best evaluation (NaN without one)."""
        return _perplexity(min(loss for _, loss in self.heldout)) if self.heldout else math.nan


def train_language_model(
    lm: LanguageModel | Objective,
    documents: Iterable[Document],
    *,
    heldout: Sequence[Document] = (),
    steps: int | None = None,
    seconds: float | None = None,
    batch_size: int = 16,
    accumulate: int = 1,
    optimizer: str = "muon",
    learning_rate: float = 3e-3,
    muon_learning_rate: float = 0.02,
    weight_decay: float = 0.0,
    dropout: float = 0.0,
    max_grad_norm: float = 1.0,
    warmup: float = 0.05,
    evaluate_every: int | None = None,
    patience: int | None = None,
    autocast: bool = False,
    seed: int = 0,
    checkpoints: str | Path | None = None,
    checkpoint_seconds: float = 300.0,
    resume: bool = False,
    progress_bar: bool = True,
    record: Callable[[dict[str, float]], None] | None = None,
) -> TrainingReport:
    """Train a model in place; with held-out documents it ends with its best weights.

    :param lm: a language model, which learns the next token, or an objective with its own model.
    :param documents: read once an epoch, so they must be re-iterable (a list, or an object whose
        `__iter__` opens the corpus anew).
    :param steps: optimizer steps at most; `seconds`: wall-clock at most. One of them is needed.
    :param batch_size: documents of a batch; `accumulate` batches make a step.
    :param evaluate_every: steps between evaluations (default: 20 evaluations).
    :param patience: stop after this many evaluations without a better one.
    :param autocast: matrix products in bfloat16 (fast where the processor has such instructions).
    :param checkpoints: directory for `best` and `last`; `last` can be resumed, bit by bit, on the
        same machine and thread count when the budget is in steps.
    :param checkpoint_seconds: time after which `last` is saved between two evaluations; when it is
        saved changes nothing else.
    :param record: called with each evaluation's figures.
    :raises InputError: for an empty corpus or a budget that is missing.
    :raises DivergenceError: where gradients, held-out loss or weights are no longer finite; what
        was saved before stays.
    """
    check_numbers({k: v for k, v in locals().items() if k != "heldout"})
    if steps is None and seconds is None:
        raise InputError("give a budget: steps=..., seconds=... or both")
    objective = lm if isinstance(lm, Objective) else NextTokens(lm)
    loop = _Loop(
        objective=objective,
        heldout=list(heldout),
        optimizer=build_optimizer(
            objective.model.named_parameters(),
            optimizer=optimizer,
            learning_rate=learning_rate,
            muon_learning_rate=muon_learning_rate,
            weight_decay=weight_decay,
        ),
        checkpoints=absolute(checkpoints) if checkpoints is not None else None,
        record=record or (lambda figures: None),
    )
    if resume:
        loop.resume()
    interval = evaluate_every or max(1, (steps or 1000) // 20)
    read = functools.partial(batches, batch_size=batch_size, seed=seed, collate=objective.collate)
    stream = _stream(documents, read, skip=loop.report.steps * accumulate)
    budget = _Budget(steps, seconds, loop.report)
    device = objective.device
    cast = torch.autocast(device.type, torch.bfloat16, enabled=autocast)
    with deferred_interrupt() as is_interrupted, _bar(budget, progress_bar) as bar:
        try:
            with _training_mode(objective, dropout) as seed_dropout:
                while not (budget.done() or is_interrupted()):
                    loop.progress = budget.progress()
                    factor = cosine_with_warmup(loop.progress, warmup=warmup)
                    loop.optimizer.set_learning_rate_factor(factor)
                    seed_dropout(seed, loop.report.steps)
                    step_batches = [next(stream).to(device) for _ in range(accumulate)]
                    generator = torch.Generator().manual_seed(_seed(seed, loop.report.steps, 1))
                    loop.step(step_batches, generator, max_grad_norm, cast)
                    budget.show(bar)
                    if loop.report.steps % interval == 0 and not loop.evaluate(patience):
                        break
                    loop.save_after(checkpoint_seconds)
        except KeyboardInterrupt:
            loop.report.interrupted = True
        loop.report.interrupted |= is_interrupted()
        loop.finish()
    return loop.report


@dataclass
class _Loop:
    """The moving parts of one training."""

    objective: Objective
    heldout: list[Document]
    optimizer: Optimizers
    checkpoints: Path | None
    record: Callable[[dict[str, float]], None]
    report: TrainingReport = field(default_factory=TrainingReport)
    best: dict[str, torch.Tensor] | None = None
    saved_at: float = field(default_factory=time.monotonic)
    interval_loss: float = 0.0
    interval_tokens: int = 0
    progress: float = 0.0

    def step(
        self,
        step_batches: list[Batch],
        generator: torch.Generator,
        max_grad_norm: float,
        cast: contextlib.AbstractContextManager[Any],
    ) -> None:
        learned = sum(len(batch.source) for batch in step_batches)
        self.optimizer.zero_grad()
        for batch in step_batches:
            with cast:
                loss = self.objective.loss(batch, self.progress, generator)
            (loss / learned).backward()  # type: ignore[no-untyped-call]
            self.interval_loss += float(loss.detach())
            self.report.tokens += len(batch.tokens)
        norm = torch.nn.utils.clip_grad_norm_(self.objective.model.parameters(), max_grad_norm)
        if not math.isfinite(float(norm)):
            raise self.diverged(f"the norm of the gradients is {float(norm)}")
        self.optimizer.step()
        self.interval_tokens += learned
        self.report.steps += 1

    def diverged(self, what: str) -> DivergenceError:
        kept = "" if self.checkpoints is None else f"; {self.checkpoints} is as it was saved before"
        return DivergenceError(
            f"the training diverged at step {self.report.steps}: {what}: lower learning_rate, "
            f"muon_learning_rate or max_grad_norm{kept}"
        )

    def evaluate(self, patience: int | None) -> bool:
        """Close an interval; False if the training should stop early."""
        report = self.report
        report.losses.append(self.interval_loss / max(self.interval_tokens, 1))
        figures = {"step": report.steps, "loss": report.losses[-1], "tokens": report.tokens}
        self.interval_loss, self.interval_tokens = 0.0, 0
        if self.heldout:
            found = self.objective.heldout(self.heldout, self.progress)
            loss = found["heldout_loss"]
            if not math.isfinite(loss):
                raise self.diverged(f"the loss on held-out documents is {loss}")
            figures["heldout_loss"], figures["heldout_perplexity"] = loss, _perplexity(loss)
            figures |= found
            is_best = all(loss < earlier for _, earlier in report.heldout)
            report.heldout.append((report.steps, loss))
            if is_best:
                report.best_step = report.steps
                self.best = self._weights()
        # `last` first: a run that is killed between the two can go on, and knows what is best.
        self._save(LAST, self.optimizer)
        if self.heldout and is_best:
            self._save(BEST)
        self.record(figures)
        since = sum(step > report.best_step for step, _ in report.heldout)
        report.stopped_early = patience is not None and since >= patience
        return not report.stopped_early

    def save_after(self, seconds: float) -> None:
        """Save what is needed to go on, if the last time is so long ago."""
        if time.monotonic() - self.saved_at >= seconds:
            self._save(LAST, self.optimizer)

    def finish(self) -> None:
        if self.interval_tokens or not self.report.losses:
            self.evaluate(None)
        if self.best is not None and not self.report.interrupted:
            self.objective.model.load_state_dict(self.best)
        elif self.best is None:
            self.report.best_step = self.report.steps
            self._save(BEST)
        self.objective.model.eval()

    def resume(self) -> None:
        if self.checkpoints is None:
            raise InputError("resume needs the directory of the checkpoints to resume from")
        state = self.objective.load(self.checkpoints / LAST)
        try:
            self.optimizer.load_state_dict(state["optimizers"])
            self.report = TrainingReport.from_saved(state["report"])
            loss, tokens = state["interval"]
            self.interval_loss, self.interval_tokens = float(loss), int(tokens)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(
                f"{self.checkpoints / LAST}: its state does not fit this training ({error!s:.120})"
            ) from None
        if self.report.heldout and self.report.best_step == self.report.steps:
            self.best = self._weights()
            self._save(BEST)  # it may not have come so far
        elif self.report.heldout and holds(self.checkpoints / BEST, "model.safetensors"):
            try:
                self.best = self.objective.weights(self.checkpoints / BEST)
            except InputError as error:  # it is the next evaluation that is better than all
                warnings.warn(f"{error}: went on without the best weights", stacklevel=2)
                self.report.heldout = []

    def _weights(self) -> dict[str, torch.Tensor]:
        """A copy of the weights as they are."""
        return {k: v.detach().clone() for k, v in self.objective.model.state_dict().items()}

    def _save(self, name: str, optimizer: Optimizers | None = None) -> None:
        if self.checkpoints is None:
            return
        check_weights(self.objective.model.state_dict().items(), LARGEST_WEIGHT)
        state, keep_old_as = None, None
        if optimizer is not None:
            keep_old_as = PREVIOUS
            state = {
                "optimizers": optimizer.state_dict(),
                "report": asdict(self.report),
                "interval": [self.interval_loss, self.interval_tokens],
            }
        self.objective.save(self.checkpoints / name, state, keep_old_as)
        self.saved_at = time.monotonic()


class _Budget:
    """How far a training is, by steps and by the clock."""

    def __init__(self, steps: int | None, seconds: float | None, report: TrainingReport) -> None:
        self.steps, self.seconds, self.report = steps, seconds, report
        self.start = time.monotonic() - report.seconds
        self.first_tokens, self.first_time = report.tokens, time.monotonic()

    def progress(self) -> float:
        self.report.seconds = time.monotonic() - self.start
        by_steps = self.report.steps / self.steps if self.steps else 0.0
        by_clock = self.report.seconds / self.seconds if self.seconds else 0.0
        return max(by_steps, by_clock)

    def done(self) -> bool:
        return self.progress() >= 1.0

    def show(self, bar: "tqdm[Any]") -> None:
        elapsed = max(time.monotonic() - self.first_time, 1e-9)
        rate = (self.report.tokens - self.first_tokens) / elapsed
        bar.set_postfix_str(f"{rate:,.0f} tokens/s", refresh=False)
        bar.update(min(self.progress(), 1.0) * 100 - bar.n)


def _bar(budget: _Budget, enabled: bool) -> "tqdm[Any]":
    layout = "{desc} {percentage:3.0f}%|{bar}| {elapsed} past, {remaining} left{postfix}"
    return tqdm(total=100, desc="training", bar_format=layout, disable=not enabled)


def _stream(
    documents: Iterable[Document], read: Callable[..., Iterator[Batch]], skip: int
) -> Iterator[Batch]:
    """Batches for ever, epoch after epoch; the first `skip` are passed over.

    :param read: the batches of `documents` in the order of an `epoch`.
    """
    epoch = 0
    while True:
        count = 0
        for batch in read(documents, epoch=epoch):
            count += 1
            if skip:
                skip -= 1
                continue
            yield batch
        if not count and epoch:
            raise InputError(
                "the corpus can be read only once, but training needs another epoch: pass a list, "
                "or an object whose __iter__ opens it anew"
            )
        if not count:
            raise InputError("the corpus is empty: training needs at least one text")
        epoch += 1


@contextlib.contextmanager
def _training_mode(objective: Objective, dropout: float) -> Iterator[Callable[[int, int], None]]:
    """Training mode with dropout inside, evaluation mode without it after.

    torch's dropout knows only the global generator: it is as it was afterwards. Seeding it anew for
    each step lets a resumed training go on bit by bit.

    :return: a function of the seed and the step.
    """

    def seed_dropout(seed: int, step: int) -> None:
        if dropout > 0:
            torch.manual_seed(_seed(seed, step))

    objective.set_dropout(dropout)
    objective.model.train()
    try:
        with torch.random.fork_rng(enabled=dropout > 0):
            yield seed_dropout
    finally:
        objective.set_dropout(0.0)
        objective.model.eval()


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))  # a training that diverged must not end in an OverflowError
