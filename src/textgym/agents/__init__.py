"""The coach: Stable-Baselines3's algorithms wired up for text, training, evaluation, recording.

The names below are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgym.agents.building import Algorithm
    from textgym.agents.callbacks import StopAfterSeconds
    from textgym.agents.evaluation import EvaluationReport
    from textgym.agents.kl import KLPenalty
    from textgym.agents.recording import Recorder, RecordingVecEnv
    from textgym.agents.rollout_buffer import EpisodeRolloutBuffer
    from textgym.agents.vec_env import TextVecEnv

__all__ = [
    "Algorithm",
    "EpisodeRolloutBuffer",
    "EvaluationReport",
    "KLPenalty",
    "Recorder",
    "RecordingVecEnv",
    "StopAfterSeconds",
    "TextVecEnv",
]

_MODULES = {
    "Algorithm": "building",
    "EpisodeRolloutBuffer": "rollout_buffer",
    "EvaluationReport": "evaluation",
    "KLPenalty": "kl",
    "Recorder": "recording",
    "RecordingVecEnv": "recording",
    "StopAfterSeconds": "callbacks",
    "TextVecEnv": "vec_env",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
