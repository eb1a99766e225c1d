"""Callbacks in Stable-Baselines3's own form."""

import time

from stable_baselines3.common.callbacks import BaseCallback


class StopAfterSeconds(BaseCallback):
    """End `learn` at the first step after so many seconds.

    :param seconds: wall-clock time from the start of training.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self._end = float("inf")

    def _on_training_start(self) -> None:
        self._end = time.monotonic() + self.seconds

    def _on_step(self) -> bool:
        return time.monotonic() < self._end
