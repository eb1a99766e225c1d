"""Held-out evaluations on the way: a callback that changes nothing in the training.

At points of a run, evenly spaced in completion tokens, start and end included, the policy continues
the same prompts, which it never trains on. Each evaluation is made at the first boundary between an
update and the next rollout at or past its point, the last one after the last update. What it needs
is its own: rows, caches, random numbers; what a judge draws or counts is set back.
"""

import contextlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat

from textgym.agents.evaluation.held_out_texts import HeldOutTexts
from textgym.agents.evaluation.judging import mean_scores
from textgym.agents.runs.held_out import HeldOutText, append_texts, perplexity, read_held_out
from textgym.agents.runs.recording import recorder_of
from textgym.agents.runs.run import Run
from textgym.errors import InputError
from textgym.json_lines import cut_rows
from textgym.policies.sb3.text_policy import TextPolicy
from textgym.rewards import Reward
from textgym.run_files import HELD_OUT, START
from textgym.states import NoStateError, load_state_of, state_of
from textgym.text_metrics.metrics import distinct_n

DEFAULT_EVALUATIONS = 5
DEFAULT_PROMPTS = 64


class HeldOutEvaluations(BaseCallback):
    """Evaluates a run at `evaluations` points of it, into its record and TensorBoard.

    :param run: that is held, with the settings of the record written.
    :param texts: writes them and has them judged.
    :param evaluations: points, 2 at least.
    :param timesteps: completion tokens of the run in all.
    :param keep_start: write the model of the start into the run, as nobody else keeps it.
    """

    def __init__(
        self,
        run: Run,
        texts: HeldOutTexts,
        evaluations: int,
        timesteps: int,
        *,
        keep_start: bool,
    ) -> None:
        super().__init__()
        self.run, self.texts, self.keep_start = run, texts, keep_start
        self.points = evaluation_points(evaluations, timesteps)
        self.timesteps = timesteps
        self.last_step = -1
        self.start_perplexity: float | None = None
        self.listeners: list[Callable[[Sequence[HeldOutText]], None]] = []
        """Are given the texts of each evaluation, once they are in the record."""
        self._is_between_updates = False

    def _on_training_start(self) -> None:
        self.go_on_at(self.run.step_offset + self.model.num_timesteps)

    def go_on_at(self, step: int) -> None:
        """Take out of the record what is behind a step, and an evaluation that is not whole."""
        path = self.run.directory / HELD_OUT
        cut_rows(path, step)
        record = read_held_out(self.run.directory)
        if record is not None and record.steps:
            self.last_step = record.steps[-1]
            self.start_perplexity = perplexity(record.texts[record.steps[0]])
        cut_rows(path, self.last_step)

    def _on_rollout_start(self) -> None:
        self._is_between_updates = False
        self.evaluate_if_due(self.model.num_timesteps)

    def _on_rollout_end(self) -> None:
        self._is_between_updates = True  # the update follows at once

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        # Not where a callback has ended the last rollout: its texts were never learned from.
        is_whole = self._is_between_updates and self.model.num_timesteps >= self.timesteps
        if is_whole:
            self.evaluate_if_due(self.model.num_timesteps)

    def make_up(self, agent: BaseAlgorithm) -> None:
        """Make the last evaluation of a run that was stopped between its last update and it.

        :param agent: that has learned all it was to learn.
        """
        self.model = agent
        self.go_on_at(self.run.step_offset + agent.num_timesteps)
        self.evaluate_if_due(agent.num_timesteps)

    def evaluate_if_due(self, step: int) -> None:
        """Evaluate at a boundary, if a point lies between the last evaluation and it.

        :raises RewardError: from a judge, naming it, the prompt and the step.
        """
        step += self.run.step_offset
        if not any(self.last_step < point <= step for point in self.points):
            return
        start = self.run.checkpoint(START)
        if self.keep_start and not start.is_dir():  # not before: it would pass for a checkpoint
            self.texts.start.save_pretrained(start)
        policy: Any = self.model.policy
        assert isinstance(policy, TextPolicy)
        with left_alone(self.texts.judges):
            texts = self.texts.write(policy, step)
        append_texts(self.run.directory, texts)
        self.last_step = step
        if self.start_perplexity is None:
            self.start_perplexity = perplexity(texts)
        self._show(held_out_figures(texts, self.start_perplexity))
        for listener in self.listeners:
            listener(texts)

    def _show(self, figures: Mapping[str, float]) -> None:
        """Write figures into TensorBoard, at the step that the weights have learned from."""
        if not hasattr(self.model, "_logger"):
            return  # outside `learn`
        recorder = recorder_of(self.model)
        if recorder is not None:
            recorder.join_logger()  # it marks where this process begins: what is before is purged
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                for tag, value in figures.items():
                    output.writer.add_scalar(tag, value, self.model.num_timesteps)
                output.writer.flush()


def evaluation_points(evaluations: int, timesteps: int) -> list[int]:
    """Completion tokens at which evaluations are due, evenly spaced, from 0 to `timesteps`."""
    return [round(k * timesteps / (evaluations - 1)) for k in range(evaluations)]


def held_out_figures(texts: Sequence[HeldOutText], start_perplexity: float) -> dict[str, float]:
    """The means of an evaluation by tag, as TensorBoard shows them.

    :param start_perplexity: of the texts of the first evaluation.
    """
    judges = {name: [text.scores.get(name) for text in texts] for name in texts[0].scores}
    return {
        **{f"held_out_scores/{name}": mean for name, mean in mean_scores(judges).items()},
        "held_out/kl": float(np.mean([text.kl for text in texts])),
        "held_out/length": float(np.mean([text.length for text in texts])),
        "held_out/distinct_2": distinct_n([text.completion for text in texts], 2),
        "held_out/perplexity_ratio": perplexity(texts) / start_perplexity,
    }


@contextlib.contextmanager
def left_alone(judges: Mapping[str, Reward]) -> Iterator[None]:
    """Set back what judges count, and the global generators: the training goes on from its own."""
    states = {name: _state(name, judge) for name, judge in judges.items()}
    numbers, legacy = random.getstate(), np.random.get_state()
    cuda: Any = torch.cuda
    with torch.random.fork_rng(range(cuda.device_count()) if cuda.is_initialized() else ()):
        try:
            yield
        finally:
            random.setstate(numbers)
            np.random.set_state(legacy)
            for name, state in states.items():
                if state is not None:
                    load_state_of(judges[name], state, f"judge {name}")


def _state(name: str, judge: Reward) -> Any:
    """The state of a judge, None where it has none.

    :raises InputError: where it has one that cannot be set back.
    """
    try:
        return state_of(judge, f"judge {name!r}")
    except NoStateError as error:
        raise InputError(
            f"{error}; an evaluation has to set it back, or the training would see it"
        ) from None
