"""`learn` of an agent that has a run directory: it holds the directory, and saves there.

Stable-Baselines3's classes stay as they are. Every `learn` turns its callbacks into one with
`_init_callback`; the agents of `build_agent` have one of their own, which adds ours. They have a
`learn` of their own too, which is SB3's and saves where that is cut short.
"""

import time
from enum import Enum
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback

from textgym.agents.building.checkpoint import agent_state, save_agent
from textgym.agents.runs.callbacks import as_list
from textgym.agents.runs.kept_checkpoints import (
    CheckpointPlan,
    forget_later,
    keep_best,
    keep_newest,
)
from textgym.agents.runs.logger_state import cut_record
from textgym.agents.runs.recording import recorder_of
from textgym.agents.runs.run import Run
from textgym.errors import DivergenceError, InputError, OutOfMemoryError, StorageError
from textgym.out_of_memory import explained
from textgym.policies.language_model.published import publish
from textgym.run_files import CHECKPOINTS, LAST, PREVIOUS


class _Phase(Enum):
    """Where `learn` is: between an update and the next rollout, in a rollout, in an update."""

    IDLE, ROLLOUT, UPDATE = range(3)


class LearnInRun:
    """What `agent.learn` does first: take the run directory, and see to its checkpoints.

    :param plan: when a checkpoint is written; there is one at the start and one at the end besides.
    """

    def __init__(self, agent: BaseAlgorithm, run: Run, plan: CheckpointPlan) -> None:
        self.agent, self.run, self.plan = agent, run, plan
        self._saved_at: tuple[float, int] | None = None
        self._init_callback = agent._init_callback
        self._has_begun = False
        self._phase = _Phase.IDLE
        self._at_boundary: dict[str, Any] | None = None

    def attach(self) -> None:
        """Put this in the place of SB3's, and out of what SB3's `save` pickles."""
        ours = {"_init_callback": self, "learn": self.learn}
        excluded = [*self.agent._excluded_save_params(), *ours, "_excluded_save_params"]
        vars(self.agent).update(ours, _excluded_save_params=lambda: list(excluded))

    def learn(self, *arguments: Any, **keywords: Any) -> BaseAlgorithm:
        """The algorithm's own `learn`; where it is cut short, what it has learned is saved.

        :raises OutOfMemoryError: where memory ran out, saying what to lower.
        """
        self._has_begun = False
        learn: Any = type(self.agent).learn
        try:
            learned = learn(self.agent, *arguments, **keywords)
        except BaseException as error:
            told = explained(error, in_update=self._phase is _Phase.UPDATE)
            if self._has_begun and not self.run.is_busy:  # else a verb sees to it
                save_cut_short(self.agent, told)
            if told is not error:
                raise told from None
            raise
        self._phase, self._at_boundary = _Phase.IDLE, None
        return learned  # type: ignore[no-any-return]

    def __call__(self, callback: MaybeCallback = None, progress_bar: bool = False) -> BaseCallback:
        """SB3's `_init_callback`, with ours before the user's.

        :raises InputError: if another agent goes on with the run.
        """
        self.run.hold()
        recorder = recorder_of(self.agent)
        if self.run.is_resumed and recorder is not None and recorder.goes_on is not None:
            step = self.run.step_offset + self.agent.num_timesteps
            cut_record(self.run.directory, recorder.rows_until, step)
            forget_later(self.run.directory, step)
        if self.agent.num_timesteps == 0:  # a record goes on where SB3 counts anew
            self.run.step_offset = self.run.last_step()
        self.agent.text_settings["step_offset"] = self.run.step_offset  # type: ignore[attr-defined]
        callbacks = [_Boundaries(self), _TellRecorder(), *as_list(callback)]
        self._has_begun, self._phase, self._at_boundary = True, _Phase.IDLE, None
        self._saved_at = None
        return self._init_callback(callbacks, progress_bar)

    def rollout_begins(self) -> None:
        """Between an update and the next rollout: what a rollout that is cut short goes back to."""
        self.agent.policy.drop_caches()  # type: ignore[operator]
        is_due = self.plan.is_due(self._saved_at, self.agent.num_timesteps)
        is_best = is_due and self._is_best()
        self._phase, self._at_boundary = _Phase.ROLLOUT, agent_state(self.agent)
        if is_due:
            self._write(self._at_boundary, is_best=is_best)

    def rollout_ends(self) -> None:
        """From here on weights change."""
        self._phase, self._at_boundary = _Phase.UPDATE, None

    def training_ends(self) -> None:
        """The last update is whole; a rollout that a callback has ended is not, and counts not."""
        if self._phase is _Phase.UPDATE:
            self._phase = _Phase.IDLE
        self.save()

    def save(self) -> None:
        """Write the checkpoint to go on from: as things stood between two updates."""
        if self._at_boundary is not None:
            self._write(self._at_boundary, is_best=False)
            return
        is_best = self._phase is _Phase.IDLE and self._is_best()
        cut_short = {"is_cut_short": True} if self._phase is _Phase.UPDATE else {}
        self._write({**agent_state(self.agent), **cut_short}, is_best=is_best)

    def _is_best(self) -> bool:
        recorder = recorder_of(self.agent)
        return recorder is not None and recorder.best_reward.is_best()

    def _write(self, state: dict[str, Any], *, is_best: bool) -> None:
        directory = self.run.directory
        save_in_run(self.agent, directory, state=state)
        if self.plan.keep > 2:
            step = self.run.step_offset + int(state["num_timesteps"])
            keep_newest(directory, step, self.plan.keep)
        if is_best:
            keep_best(directory)
        self._saved_at = time.monotonic(), self.agent.num_timesteps


def save_cut_short(agent: BaseAlgorithm, error: BaseException) -> None:
    """Save what was learned before a reward model, a prompt, a callback or an interrupt ended it.

    :param agent: one with a run directory.
    :param error: what ended it; one of ours says from now on where the agent is saved.
    :raises DivergenceError: for weights that are not finite; the checkpoint before stays.
    """
    learning: LearnInRun = vars(agent)["_init_callback"]
    last = learning.run.directory / CHECKPOINTS / LAST
    if isinstance(error, DivergenceError):
        error.args = (f"{error}; {last} is as it was saved before", *error.args[1:])
    elif not isinstance(error, StorageError):
        learning.save()
        if isinstance(error, InputError | OutOfMemoryError):
            error.args = (f"{error}; the agent is saved in {last}", *error.args[1:])


def save_in_run(
    agent: BaseAlgorithm, directory: Path, *, state: dict[str, Any] | None = None
) -> None:
    """Write the checkpoint of an agent in its run directory, which transformers opens too.

    The one before is kept, in case that this one comes to harm.

    :param state: as `save_agent` takes it.
    """
    save_agent(agent, directory / CHECKPOINTS / LAST, keep_old_as=PREVIOUS, state=state)
    publish(directory)


class _Boundaries(BaseCallback):
    """Tells `LearnInRun` where rollouts begin and end. It comes before all other callbacks."""

    def __init__(self, learning: LearnInRun) -> None:
        super().__init__()
        self.learning = learning

    def _on_rollout_start(self) -> None:
        self.learning.rollout_begins()

    def _on_rollout_end(self) -> None:
        self.learning.rollout_ends()

    def _on_training_end(self) -> None:
        self.learning.training_ends()

    def _on_step(self) -> bool:
        return True


class _TellRecorder(BaseCallback):
    """The last continuations are written where a callback ends `learn` before its budget, too."""

    def _on_training_end(self) -> None:
        recorder = recorder_of(self.model)
        if recorder is not None:
            recorder.learning_ended()

    def _on_step(self) -> bool:
        return True
