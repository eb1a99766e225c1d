"""Stable-Baselines3's `VecMonitor`, which fills in the return of a text that is scored later."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecMonitor

from textgym.envs.scoring import FinishedText, Scores


class TextMonitor(VecMonitor):
    """What `textgym.make_vec` puts around a `TextVecEnv`.

    While texts wait for their scores, `info["episode"]["r"]` is NaN; the same dictionary is filled
    in when they are scored.
    """

    def step_wait(self) -> Any:
        """As `VecMonitor`'s."""
        observations, rewards, dones, infos = super().step_wait()
        scores: Scores | None = getattr(self.venv.unwrapped, "scores", None)
        if scores is not None:
            for row, text in scores.latest.items():
                _await_score(text, infos[row])
        return observations, rewards, dones, infos


def _await_score(text: FinishedText, info: dict[str, Any]) -> None:
    """Have the info of an ending filled in once its text is scored."""
    episode = info["episode"]
    before = episode["r"]  # float32: what the steps before the last one paid
    episode["r"] = np.float32("nan")

    def fill(text: FinishedText) -> None:
        episode["r"] = before + np.float32(text.reward)
        if "token_rewards" in text.ending:
            info["token_rewards"] = text.ending["token_rewards"]

    text.listeners.append(fill)
