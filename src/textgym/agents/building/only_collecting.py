"""Rollouts that nothing is learned from: those that a reward model only collects.

A reward model that cannot say anything yet, such as people's before their first answers and without
a prior, has `only_collects`: true while its scores mean nothing. An update from them would follow
the KL term, the entropy bonus and noise. So the agent's `train` is not called then: no weight, no
moment of an optimizer and no count of updates changes. Stable-Baselines3's classes stay as they
are; the agent has a `train` of its own, which is theirs and waits.
"""

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
from textgym.agents.runs.recording import Recorder
from textgym.agents.runs.rollout_rewards import can_only_collect


class TrainUnlessCollecting:
    """What an agent's `train` does: nothing after a rollout that was only collected."""

    def __init__(self, agent: BaseAlgorithm, recorder: Recorder) -> None:
        self.agent, self.recorder = agent, recorder
        self._excluded = agent._excluded_save_params

    def attach(self) -> None:
        """Put this in the place of SB3's, and out of what SB3's `save` pickles."""
        vars(self.agent).update(train=self, _excluded_save_params=self.excluded)

    def excluded(self) -> list[str]:
        """SB3's `_excluded_save_params`."""
        return [*self._excluded(), "train", "_excluded_save_params"]

    def __call__(self, *arguments: Any, **keywords: Any) -> None:
        """The algorithm's own `train`, unless the rollout was only collected."""
        buffer = getattr(self.agent, "replay_buffer", None)
        if isinstance(buffer, EpisodeReplayBuffer):  # otherwise sampling from it says so
            buffer.rollout_ends()
        if not self.recorder.only_collects:
            train: Any = type(self.agent).train  # type: ignore[attr-defined]
            train(self.agent, *arguments, **keywords)


def learn_from_what_is_scored(agent: BaseAlgorithm, recorder: Recorder, env: VecEnv) -> None:
    """Have an agent wait for reward models that have nothing to say yet, if it has such.

    :param env: the agent's, whose reward models are looked at.
    """
    if can_only_collect(env):
        TrainUnlessCollecting(agent, recorder).attach()
