"""The coach: Stable-Baselines3's algorithms wired up for text, training, evaluation, recording.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.agents.algorithms.best_of_n import BestOfN
    from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm
    from textgym.agents.algorithms.dpo import DPO
    from textgym.agents.algorithms.grpo import GRPO
    from textgym.agents.algorithms.nlpo import NLPO
    from textgym.agents.algorithms.reinforce import REINFORCE
    from textgym.agents.algorithms.rloo import RLOO
    from textgym.agents.building.local_judge import local_judge
    from textgym.agents.building.specs import (
        Algorithm,
        CriticFreeSpec,
        OffPolicySpec,
        OnPolicySpec,
    )
    from textgym.agents.evaluation.human_reviews import agreement_on_reviews
    from textgym.agents.evaluation.oracle import Oracle
    from textgym.agents.evaluation.report import EvaluationReport
    from textgym.agents.rollouts.kl import KLPenalty
    from textgym.agents.rollouts.maskable_rollout_buffer import MaskableEpisodeRolloutBuffer
    from textgym.agents.rollouts.recording_vec_env import RecordingVecEnv
    from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
    from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
    from textgym.agents.rollouts.split_rewards import DenseRewards
    from textgym.agents.rollouts.vec_env import TextVecEnv
    from textgym.agents.runs.callbacks import ProgressBar, StopAfterSeconds
    from textgym.agents.runs.recording import Recorder
    from textgym.agents.runs.run import Run

__all__ = [
    "DPO",
    "GRPO",
    "NLPO",
    "REINFORCE",
    "RLOO",
    "Algorithm",
    "BestOfN",
    "CriticFreeAlgorithm",
    "CriticFreeSpec",
    "DenseRewards",
    "EpisodeReplayBuffer",
    "EpisodeRolloutBuffer",
    "EvaluationReport",
    "KLPenalty",
    "MaskableEpisodeRolloutBuffer",
    "OffPolicySpec",
    "OnPolicySpec",
    "Oracle",
    "ProgressBar",
    "Recorder",
    "RecordingVecEnv",
    "Run",
    "StopAfterSeconds",
    "TextVecEnv",
    "agreement_on_reviews",
    "local_judge",
]

_MODULES = {
    "Algorithm": "building.specs",
    "BestOfN": "algorithms.best_of_n",
    "CriticFreeAlgorithm": "algorithms.critic_free",
    "CriticFreeSpec": "building.specs",
    "DPO": "algorithms.dpo",
    "DenseRewards": "rollouts.split_rewards",
    "EpisodeReplayBuffer": "rollouts.replay_buffer",
    "EpisodeRolloutBuffer": "rollouts.rollout_buffer",
    "EvaluationReport": "evaluation.report",
    "GRPO": "algorithms.grpo",
    "KLPenalty": "rollouts.kl",
    "MaskableEpisodeRolloutBuffer": "rollouts.maskable_rollout_buffer",
    "NLPO": "algorithms.nlpo",
    "OffPolicySpec": "building.specs",
    "OnPolicySpec": "building.specs",
    "Oracle": "evaluation.oracle",
    "ProgressBar": "runs.callbacks",
    "REINFORCE": "algorithms.reinforce",
    "RLOO": "algorithms.rloo",
    "Recorder": "runs.recording",
    "RecordingVecEnv": "rollouts.recording_vec_env",
    "Run": "runs.run",
    "StopAfterSeconds": "runs.callbacks",
    "TextVecEnv": "rollouts.vec_env",
    "agreement_on_reviews": "evaluation.human_reviews",
    "local_judge": "building.local_judge",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
