"""The coach: Stable-Baselines3's algorithms wired up for text, training, evaluation, recording.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.agents.algorithms import Algorithm
    from textgym.agents.callbacks import ProgressBar, StopAfterSeconds
    from textgym.agents.evaluation import EvaluationReport
    from textgym.agents.kl import KLPenalty
    from textgym.agents.oracle import Oracle
    from textgym.agents.recording import Recorder, RecordingVecEnv
    from textgym.agents.replay_buffer import EpisodeReplayBuffer
    from textgym.agents.rollout_buffer import EpisodeRolloutBuffer
    from textgym.agents.split_rewards import DenseRewards
    from textgym.agents.vec_env import TextVecEnv

__all__ = [
    "Algorithm",
    "DenseRewards",
    "EpisodeReplayBuffer",
    "EpisodeRolloutBuffer",
    "EvaluationReport",
    "KLPenalty",
    "Oracle",
    "ProgressBar",
    "Recorder",
    "RecordingVecEnv",
    "StopAfterSeconds",
    "TextVecEnv",
]

_MODULES = {
    "Algorithm": "algorithms",
    "DenseRewards": "split_rewards",
    "EpisodeReplayBuffer": "replay_buffer",
    "EpisodeRolloutBuffer": "rollout_buffer",
    "EvaluationReport": "evaluation",
    "KLPenalty": "kl",
    "Oracle": "oracle",
    "ProgressBar": "callbacks",
    "Recorder": "recording",
    "RecordingVecEnv": "recording",
    "StopAfterSeconds": "callbacks",
    "TextVecEnv": "vec_env",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
