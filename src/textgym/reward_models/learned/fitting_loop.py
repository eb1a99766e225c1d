"""The training loop of the learned reward model, and the state from which it goes on.

Everything that is drawn depends on the seed, the pass and the step alone, so a loop that goes on
from its `state()` takes the same steps as one that was never stopped.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from textgym.errors import DivergenceError, InputError
from textgym.optimization import Optimizers, cosine_with_warmup
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel


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
class FitBudget:
    """How long a fit takes.

    :param steps: optimizer steps at most.
    :param seconds: wall-clock time at most; None for none. The learning rate follows whichever is
        further along, so with it a seed means another model on another machine.
    :param evaluate_every: steps between two held-out evaluations; None for none.
    :param patience: evaluations without a better result before it stops.
    """

    steps: int
    seconds: float | None
    evaluate_every: int | None
    patience: int


class Batches(Protocol):
    """What is learned from, in batches that the model's `loss` takes."""

    def steps(self, batch_size: int) -> int:
        """Batches of one pass."""

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Any]:
        """One pass in random order."""


class FittingLoop:
    """Fits a model step by step, and remembers the best state so far.

    :param accuracy: gives the model's held-out pair accuracy now.
    :param batch_size: texts (without blocks) or preferences per step.
    :param progress: called after every step.
    :param save: called after every step with a function that gives the state to go on from.
    """

    def __init__(
        self,
        model: TrunkRewardModel,
        optimizer: Optimizers,
        accuracy: Callable[[], float],
        *,
        seed: int,
        batch_size: int,
        progress: Callable[[FitProgress], None] | None = None,
        save: Callable[[Callable[[], dict[str, Any]]], None] | None = None,
    ) -> None:
        self.model, self.optimizer, self.accuracy = model, optimizer, accuracy
        self.seed, self.batch_size = seed, batch_size
        self.progress, self.save = progress, save
        self.step, self.seconds, self.stopped_early = 0, 0.0, False
        self.latest = self.best = math.nan
        self.best_state: dict[str, torch.Tensor] | None = None
        self.without_gain = 0

    def run(self, data: Batches, budget: FitBudget) -> None:
        """Steps until the budget is spent, or the held-out pairs say stop; ends with the best.

        :raises DivergenceError: for a loss that is not finite; the weights are then as before it.
        """
        start = time.monotonic() - self.seconds
        batches = self._batches(data)
        self.model.eval()  # a trunk's own dropout would draw from the global generator
        every = budget.evaluate_every
        done = self._done(budget)
        while done < 1.0 and not self.stopped_early:
            rate = cosine_with_warmup(done + 0.5 / budget.steps)
            self.optimizer.set_learning_rate_factor(rate)
            loss = self._update(next(batches))
            self.step += 1
            self.seconds = time.monotonic() - start
            done = self._done(budget)
            if every is not None and (self.step % every == 0 or done >= 1.0):
                self._evaluate(budget.patience)
            if self.save is not None:
                self.save(self.state)
            if self.progress is not None:
                self.progress(FitProgress(self.step, done, loss, self.latest))
        if self.best_state is not None:
            self.model.load_state_dict(self.best_state)

    def state(self) -> dict[str, Any]:
        """Tensors and JSON values to go on from."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "stopped_early": self.stopped_early,
            "without_gain": self.without_gain,
            "latest": None if math.isnan(self.latest) else self.latest,
            "best": None if math.isnan(self.best) else self.best,
            "best_state": self.best_state or {},
            "model": dict(self.model.state_dict()),
            "optimizers": self.optimizer.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` gave.

        :raises InputError: if it is of another model or damaged.
        """
        try:
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizers"])
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
            self.stopped_early = bool(state["stopped_early"])
            self.without_gain = int(state["without_gain"])
            self.latest, self.best = (
                math.nan if state[key] is None else float(state[key]) for key in ("latest", "best")
            )
            self.best_state = dict(state["best_state"]) or None
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"the state does not fit this reward model: {reason:.120}") from None

    def _done(self, budget: FitBudget) -> float:
        is_timed = budget.seconds is not None and self.step > 0
        by_clock = self.seconds / max(budget.seconds or 0.0, 1e-9) if is_timed else 0.0
        return min(1.0, max(self.step / budget.steps, by_clock))

    def _batches(self, data: Batches) -> Iterator[Any]:
        """Batches for ever, pass after pass, from where the loop stands.

        :raises InputError: if a pass has none.
        """
        per_pass = data.steps(self.batch_size)
        if per_pass < 1:
            raise InputError("no usable pairs: nothing to fit on: add judgements")
        number, skip = divmod(self.step, per_pass)
        while True:
            rng = np.random.default_rng([self.seed, 1 + number])
            for batch in data.batches(rng, self.batch_size):
                if skip:
                    skip -= 1
                else:
                    yield batch
            number += 1

    def _update(self, batch: Any) -> float:
        """One optimizer step; returns the loss."""
        chance = np.random.SeedSequence([self.seed, self.step, 1]).generate_state(1, np.uint64)[0]
        generator = torch.Generator().manual_seed(int(chance >> np.uint64(1)))
        with torch.enable_grad():
            loss = self.model.loss(batch, generator)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
        value = float(loss.detach())
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            raise DivergenceError(
                f"the reward model's loss is {value} and its gradient {float(norm)} at step "
                f"{self.step + 1}: lower learning_rate or muon_learning_rate"
            )
        self.optimizer.step()
        return value

    def _evaluate(self, patience: int) -> None:
        """Held-out pair accuracy now; keep the state if it is the best so far."""
        self.latest = self.accuracy()
        if not self.latest <= self.best:  # also the first, when the best is NaN
            self.best, self.without_gain = self.latest, 0
            self.best_state = copy.deepcopy(self.model.state_dict())
        else:
            self.without_gain += 1
            self.stopped_early = self.without_gain >= patience
