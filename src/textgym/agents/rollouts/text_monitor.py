"""Stable-Baselines3's `VecMonitor`, which fills in the return of a text that is scored later."""

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecMonitor

from textgym.envs.scoring import FinishedText, Scores


class TextMonitor(VecMonitor):
    """What `textgym.make_vec` puts around a `TextVecEnv`.

    While texts wait for their scores, `info["episode"]["r"]` is NaN; the same dictionary is filled
    in when they are scored.
    """

    def __getstate__(self) -> dict[str, Any]:
        """Without Stable-Baselines3's list of the class's members, which no copy can hold."""
        return {name: value for name, value in vars(self).items() if name != "class_attributes"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, class_attributes=dict(inspect.getmembers(type(self))))

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
    text.listeners.append(_Fill(info, info["episode"], info["episode"]["r"]))
    info["episode"]["r"] = np.float32("nan")


@dataclass(eq=False)
class _Fill:
    """An object, so that copies of the text fill the copy of the info.

    :param before: what the steps before the last one paid.
    """

    info: dict[str, Any]
    episode: dict[str, Any]
    before: np.float32

    def __call__(self, text: FinishedText) -> None:
        self.episode["r"] = self.before + np.float32(text.reward)
        for key in ("token_rewards", "reward_extra"):
            if key in text.ending:
                self.info[key] = text.ending[key]
