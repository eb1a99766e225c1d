"""Callbacks in Stable-Baselines3's own form."""

import time
import warnings
from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.type_aliases import MaybeCallback
from tqdm import TqdmWarning


def progress_bar(**keywords: Any) -> Any:
    """tqdm's bar for where this runs: of widgets in a notebook that has them, else of text.

    :param keywords: tqdm's own.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # a notebook without ipywidgets shows text
        from tqdm.auto import tqdm

    return tqdm(**keywords)


class ProgressBar(BaseCallback):
    """A progress bar of `learn` in completion tokens, in terminals and in every notebook.

    Stable-Baselines3's own, `learn(progress_bar=True)`, shows nothing in a notebook without
    ipywidgets.

    :param unit: what a step is.
    """

    _bar: Any = None

    def __init__(self, unit: str = "tokens") -> None:
        super().__init__()
        self.unit = unit

    def _on_training_start(self) -> None:
        total = self.model._total_timesteps - self.model.num_timesteps
        self._bar = progress_bar(total=total, unit=f" {self.unit}", unit_scale=True)
        self._shown = self.model.num_timesteps

    def _on_step(self) -> bool:
        done = self.model.num_timesteps
        self._bar.update(min(done - self._shown, self._bar.total - self._bar.n))
        self._shown = done
        return True

    def close(self) -> None:
        """End the bar's line, so that what is said next has one of its own."""
        if self._bar is not None:
            self._bar.close()

    def _on_training_end(self) -> None:
        self.close()


class StopAfterSeconds(BaseCallback):
    """End `learn` at the first step after so many seconds.

    :param seconds: wall-clock time from the start of training.
    :param after_rollouts: whole rollouts that are played in any case, however slow the machine.
    """

    def __init__(self, seconds: float, *, after_rollouts: int = 0) -> None:
        super().__init__()
        self.seconds, self.after_rollouts = seconds, after_rollouts
        self._end = float("inf")
        self._rollouts = 0

    def _on_training_start(self) -> None:
        self._end = time.monotonic() + self.seconds
        self._rollouts = 0

    def _on_rollout_end(self) -> None:
        self._rollouts += 1

    def _on_step(self) -> bool:
        return self._rollouts < self.after_rollouts or time.monotonic() < self._end


class StoppedBetweenRolloutsError(Exception):
    """Ends `learn` where nothing is half done."""


class StopBetweenRollouts(BaseCallback):
    """End `learn` before the first rollout where a condition holds, by an exception.

    Stable-Baselines3 ends at a step otherwise, in the middle of a rollout, whose part is lost.

    :param is_time: asked before every rollout.
    """

    def __init__(self, is_time: Callable[[], bool]) -> None:
        super().__init__()
        self.is_time = is_time

    def _on_rollout_start(self) -> None:
        if self.is_time():
            raise StoppedBetweenRolloutsError

    def _on_step(self) -> bool:
        return True


class StopWhen(BaseCallback):
    """End `learn` at the first step where a condition holds.

    :param is_time: asked at every step.
    """

    def __init__(self, is_time: Callable[[], bool]) -> None:
        super().__init__()
        self.is_time = is_time

    def _on_step(self) -> bool:
        return not self.is_time()


def as_list(callback: MaybeCallback) -> list[BaseCallback]:
    """What `learn` takes as callbacks, as a list of them."""
    if callback is None:
        return []
    if isinstance(callback, list):
        return callback
    return [callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)]
