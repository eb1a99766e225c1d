"""The record of a training with latent actions: figures, sample texts, checkpoints.

Stable-Baselines3's stock buffers and policies know nothing of texts, so the environment is heard
instead, by a wrapper around it, and a callback writes down what it heard. Steps are texts here (in
a dialogue, turns): one action writes one. Every tag is explained in docs/metrics.md.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from textgym.agents.runs.figures import figures, figures_table
from textgym.agents.runs.logger_state import LoggerState, RowsUntil, cut_record, mark_start
from textgym.agents.runs.markdown import markdown_table
from textgym.agents.runs.metrics_writer import JSONLines
from textgym.agents.runs.recorder_state import episode_of, episode_state
from textgym.agents.runs.rollout_figures import episode_figures
from textgym.agents.runs.run import Run
from textgym.saved_fields import SavedFields

TEXTS_OF_A_ROW = 256  # at least, behind the figures of one row of the record
SAMPLE_SETS = 3  # of continuations: at the start, the middle and the end


class HeardVecEnv(VecEnvWrapper):
    """Keeps what happens in an environment with latent actions until somebody writes it down.

    :param venv: that monitors its episodes (`textgym.make_vec`).

    `episodes` are the infos of those that ended, `squares` the mean square of each action's
    components: 1 where z is as the prior draws it.
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.episodes: list[dict[str, Any]] = []
        self.squares: list[float] = []

    def forget(self) -> None:
        """Begin anew."""
        self.episodes, self.squares = [], []

    def state_dict(self) -> dict[str, Any]:
        """What was heard and is not written down yet."""
        episodes = [episode_state(info) for info in self.episodes]
        return {"episodes": episodes, "squares": np.array(self.squares, np.float64)}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        fields = SavedFields(state, "state of the record")
        self.episodes = [episode_of(episode) for episode in fields.items("episodes")]
        self.squares = fields.array("squares", "float64", (None,)).tolist()

    def reset(self) -> VecEnvObs:
        """As the environment's."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """As the environment's; the actions are heard."""
        self.squares += np.mean(np.square(actions, dtype=np.float64), axis=-1).tolist()
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """As the environment's; the episodes that end are heard."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self.episodes += [infos[i] for i in np.flatnonzero(dones)]
        return observations, rewards, dones, infos


class LatentRecorder(BaseCallback):
    """Writes the record of a run, and saves the agent on the way and at the end of `learn`.

    A row is written after the first rollout that makes it 256 texts or more, whatever rollouts the
    algorithm has, so that figures such as distinct-2 are comparable; `learn(log_interval=None)`.

    :param run: that is held.
    :param heard: around the agent's environment.
    :param sample: continues fixed prompts with the agent as it is: pairs of prompt and text.
    :param save: writes a checkpoint.
    :param seconds: wall-clock time between two checkpoints.
    """

    def __init__(
        self,
        run: Run,
        heard: HeardVecEnv,
        *,
        sample: Callable[[], list[tuple[str, str]]],
        save: Callable[[], None],
        seconds: float,
    ) -> None:
        super().__init__()
        self.run, self.heard, self.sample = run, heard, sample
        self.save, self.seconds = save, seconds
        self._saved_at = time.monotonic()
        self._sets, self._sampled_at = 0, 0
        self._writer = JSONLines(run.metrics_path)
        self._goes_on: LoggerState | None = None
        self._rollout_is_whole = False
        self.is_between = True
        """Whether the agent stands between an update and the next rollout, or before the first."""

    def state_dict(self) -> dict[str, Any]:
        """JSON values that `load_state_dict` goes on from."""
        step, logger = self.model.num_timesteps, getattr(self.model, "_logger", None)
        return {
            "sets": self._sets,
            "logger": LoggerState.of(step, logger, self._writer).state_dict(),
            "metrics_until": self._writer.last_row,
            "samples_until": self._sampled_at,
        }

    def load_state_dict(self, state: Any, step: int) -> None:
        """Go on from a state of `state_dict`: what was written later is taken out of the record.

        :param step: of the state; `heard` has its own.
        :raises InputError: if it is none.
        """
        fields = SavedFields(state, "state of the record")
        rows = fields.whole("metrics_until") if fields.has("metrics_until") else None
        self._goes_on = LoggerState.from_state(fields.value("logger"))
        self._sets, self._sampled_at = fields.whole("sets"), fields.whole("samples_until")
        self._writer.last_row = rows
        cut_record(self.run.directory, RowsUntil(rows, self._sampled_at), step)

    def _on_training_start(self) -> None:
        self.logger.output_formats.append(self._writer)
        mark_start(self.logger, self.model.num_timesteps)
        self._saved_at = time.monotonic()
        if self._goes_on is not None:
            self._goes_on.go_on(self.logger, self._writer)
            return
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.add_text("figures/meaning", figures_table(figures()), 0)
        self.heard.forget()
        self.write_samples()

    def _on_step(self) -> bool:
        self.is_between = self._rollout_is_whole = False
        return True

    def _on_rollout_start(self) -> None:
        self.is_between = True
        total, done = self.model._total_timesteps, self.model.num_timesteps
        if self._sets < SAMPLE_SETS - 1 and done >= total * self._sets / (SAMPLE_SETS - 1):
            self.write_samples()
        if time.monotonic() - self._saved_at >= self.seconds:
            self.save()
            self._saved_at = time.monotonic()

    def _on_rollout_end(self) -> None:
        self._rollout_is_whole = True
        if len(self.heard.episodes) >= TEXTS_OF_A_ROW:
            self.write_row()

    def _on_training_end(self) -> None:
        self.is_between = self.is_between or self._rollout_is_whole
        self.write_row()  # the last update's figures are in it
        self.write_samples()

    def write_row(self) -> None:
        """Write the figures of what was heard since the last row, and what the algorithm logs."""
        for key, value in episode_figures(self.heard.episodes).items():
            self.logger.record(key, value, exclude=("stdout", "log"))
        if self.heard.squares:
            self.logger.record("latent/mean_square", float(np.mean(self.heard.squares)))
        self.heard.forget()
        self.model.dump_logs()

    def write_samples(self) -> None:
        """Continue the fixed prompts, into the record and onto TensorBoard's page of texts."""
        self._sets += 1
        step, pairs = self.model.num_timesteps, self.sample()
        self._sampled_at = step
        for prompt, text in pairs:
            self.run.add_sample(step, prompt, text)
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                table = markdown_table(("prompt", "continuation"), pairs)
                output.writer.add_text("samples/continuations", table, step)
                output.writer.flush()
