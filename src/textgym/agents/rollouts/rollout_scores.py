"""One call of the reward model for all the texts of a rollout, in agents of Stable-Baselines3.

Its algorithms tell nobody that a rollout begins or ends but their callbacks, so a callback of ours
comes before the user's: it lets the texts wait, and has them scored before anybody else hears that
the rollout is over, or cut short. On-policy buffers have them scored even before, since advantages
are computed from the scores.

Only where nothing between agent and environment reads the rewards on their way: `VecNormalize`, a
monitor that writes a file, and every wrapper that is not ours get them at once.
"""

import sys
from types import FrameType
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

from textgym.agents.rollouts.recording_vec_env import RecordingVecEnv
from textgym.agents.rollouts.text_monitor import TextMonitor
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.agents.runs.callbacks import as_list
from textgym.envs.scoring import Scores
from textgym.envs.vector_env import TextVectorEnv


def scores_of(env: VecEnv) -> Scores | None:
    """What scores the texts of an environment; None where somebody reads its rewards at once."""
    while isinstance(env, VecEnvWrapper):
        if type(env) not in (TextMonitor, RecordingVecEnv) or env.results_writer is not None:
            return None
        env = env.venv
    if type(env) is not TextVecEnv or type(env.vector_env) is not TextVectorEnv:
        return None
    return env.scores


class RolloutScores(BaseCallback):
    """Lets the texts of each rollout wait, and has them scored when it is over or cut short."""

    def __init__(self) -> None:
        super().__init__()
        self.scores: Scores | None = None
        self.is_dump_due = False

    def __getstate__(self) -> dict[str, Any]:
        """Without what SB3 shows callbacks of its own frames, modules among it."""
        return {**vars(self), "locals": {}, "globals": {}}

    def _on_rollout_start(self) -> None:
        buffer: Any = _buffer_of(self.model)
        self.scores = scores_of(self.training_env) if hasattr(buffer, "scores") else None
        if hasattr(buffer, "scores"):
            buffer.scores = self.scores
        if self.scores is not None:
            self.scores.open()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.settle()

    def _on_training_end(self) -> None:
        self.settle()  # a callback may have ended it in the middle of a rollout

    def settle(self) -> None:
        """Score what waits, and then show the figures that it belongs to."""
        if self.scores is not None:
            self.scores.settle()
            self.scores.close()
        if self.is_dump_due:
            self.is_dump_due = False
            self.model.dump_logs()

    @property
    def is_waiting(self) -> bool:
        """Whether a text waits for its score."""
        return self.scores is not None and bool(self.scores.waiting)


class LearnWithRolloutScores:
    """What an agent's `learn` makes of its callbacks: ours, then the user's."""

    def __init__(self, agent: BaseAlgorithm) -> None:
        self.agent = agent
        self._init_callback = agent._init_callback
        self._excluded = agent._excluded_save_params
        self._callback: RolloutScores | None = None

    def attach(self) -> None:
        """Put this in the place of SB3's, and out of what SB3's `save` pickles."""
        ours: dict[str, Any] = {"_init_callback": self, "_excluded_save_params": self.excluded}
        if isinstance(self.agent, OffPolicyAlgorithm):
            ours["dump_logs"] = self.dump_logs
        vars(self.agent).update(ours)

    def excluded(self) -> list[str]:
        """SB3's `_excluded_save_params`."""
        ours = ("_init_callback", "_excluded_save_params", "dump_logs")
        return [*self._excluded(), *ours]

    def __call__(self, callback: MaybeCallback = None, progress_bar: bool = False) -> BaseCallback:
        """SB3's `_init_callback`."""
        self._callback = RolloutScores()
        return self._init_callback([self._callback, *as_list(callback)], progress_bar)

    def dump_logs(self) -> None:
        """SB3's, which shows figures in the middle of a rollout; later, where they hold a NaN."""
        if self._callback is not None and self._callback.is_waiting:
            self._callback.is_dump_due = True
        else:
            type(self.agent).dump_logs(self.agent)


def score_by_rollout(buffer: object) -> None:
    """Have the agent that is just making `buffer` score its texts together.

    Stable-Baselines3 makes the buffer in `_setup_model` and tells it nothing of the agent, which is
    therefore looked for among the callers. Nobody is found where a buffer is made by hand; then
    texts are scored at once.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        agent = frame.f_locals.get("self") if frame.f_code.co_name == "_setup_model" else None
        if isinstance(agent, BaseAlgorithm):
            LearnWithRolloutScores(agent).attach()
            return
        frame = frame.f_back


def _buffer_of(agent: BaseAlgorithm) -> object:
    buffer = getattr(agent, "rollout_buffer", None)
    return getattr(agent, "replay_buffer", None) if buffer is None else buffer
