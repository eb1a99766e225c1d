"""The recorder of a training run: text metrics, sample texts, `metrics.jsonl`, TensorBoard.

It rides on Stable-Baselines3's own logger, so that `learn(tb_log_name=...)`, `tensorboard_log` and
`verbose` work as always, and subclasses nothing: a `VecEnv` wrapper sees the finished episodes,
whoever holds the rollout calls `Recorder.rollout_done` once it is whole, just before SB3 writes its
figures, and what every algorithm of SB3 logs first and last in an update says when it is learned.
Every tag is explained in docs/metrics.md.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from textgym.agents.runs.best_reward import BestReward
from textgym.agents.runs.directory import start_run
from textgym.agents.runs.figures import figures, figures_table
from textgym.agents.runs.flat_rewards import FlatRewards
from textgym.agents.runs.logger_state import LoggerState, RowsUntil, mark_start
from textgym.agents.runs.markdown import markdown_table
from textgym.agents.runs.metrics_writer import JSONLines
from textgym.agents.runs.reward_extra import tell_reward, write_reward_extra
from textgym.agents.runs.rollout_figures import RolloutFigures, episode_figures, returns
from textgym.agents.runs.rollout_rewards import only_collects, rollout_begins, rollout_ends
from textgym.agents.runs.run import Run
from textgym.chat_templates import ChatTemplate
from textgym.policies.language_model.generation import encode_prompts, generate_tokens
from textgym.policies.sb3.text_policy import TextPolicy

if TYPE_CHECKING:
    from textgym.agents.rollouts.recording_vec_env import RecordingVecEnv

# Is given the figures of a rollout by tag, and the infos of the episodes that ended in it.
Listener = Callable[[dict[str, float], list[dict[str, Any]]], None]

# What every algorithm of Stable-Baselines3 logs when an update begins, and when it is over.
_UPDATE_BEGINS, _UPDATE_DONE = "train/learning_rate", "train/n_updates"


class Recorder:
    """Collects finished episodes and writes their figures into `agent.logger`.

    Continuations of `prompts` are written before the first update of a `learn`, after the update
    that passes half of its budget, after the last one, and every `sample_every` updates, each at
    the step (completion tokens) that its weights have learned from. Where a
    callback ends `learn` before its budget, the last set needs a run directory.

    :param prompts: texts that are continued again and again, so that a reader sees the change.
    :param max_new_tokens: of these continuations.
    :param chat: what writes the prompts for the policy, as in the environment.
    :param directory: a run directory for `metrics.jsonl` and `samples.jsonl` (the next free name
        if there is a run), or a run that is held; None writes to SB3's logger only.
    :param sample_every: updates between two sets of continuations at most.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        chat: ChatTemplate | None = None,
        directory: str | Path | Run | None = None,
        sample_every: int = 10,
    ) -> None:
        self.prompts, self.max_new_tokens, self.chat = list(prompts), max_new_tokens, chat
        if isinstance(directory, str | Path):
            directory = start_run(directory, free_name=True)
        self.run: Run | None = directory
        self.sample_every = sample_every
        self.agent: BaseAlgorithm | None = None
        self.episodes: list[dict[str, Any]] = []
        self.rollouts = self.updates = 0
        self.writer: JSONLines | None = None
        self.flat_rewards, self.best_reward = FlatRewards(), BestReward()
        self.env: RecordingVecEnv | None = None
        self.sampled_at: tuple[int, int] | None = None  # step, updates
        self.rows_until = RowsUntil()
        self.began_at: int | None = None  # the step at which the `learn` at hand began
        self.goes_on: LoggerState | None = None  # with the logger of a run that was interrupted
        self.listeners: list[Listener] = []  # hear each rollout's figures, before they are written
        self.only_collects = False  # whether the last rollout's scores mean nothing
        self._tokens_learned = 0
        self._rollout_began = self._update_began = 0.0

    def attach(self, agent: BaseAlgorithm, env: "RecordingVecEnv") -> None:
        """Record what `agent` does on `env`."""
        self.agent = agent
        env.recorder, self.env = self, env
        buffer = getattr(agent, "rollout_buffer", None) or getattr(agent, "replay_buffer", None)
        holder: Any = agent if buffer is None else buffer
        holder.recorder = self

    def listen_to(self, env: "RecordingVecEnv") -> None:
        """From here on, record what is played on `env`; what the one before began is dropped."""
        if self.env is not None:
            self.env.recorder = None
        env.recorder, self.env = self, env
        self.episodes = []
        self.step_begins()

    def step_begins(self) -> None:
        """Called before every step: the first one of a rollout starts its clock.

        Outside `learn`, where somebody evaluates on the agent's own environment, none does.
        """
        agent = self.agent
        if self._rollout_began or agent is None or agent.num_timesteps >= agent._total_timesteps:
            return
        self.join_logger()
        if self.env is not None:
            tell_reward(self.env, agent, self.updates)
            rollout_begins(self.env, self._offset() + agent.num_timesteps)
        self._rollout_began = time.perf_counter()

    def episode_done(self, info: dict[str, Any]) -> None:
        """Keep one finished episode until its rollout is over."""
        if self._rollout_began:
            self.episodes.append(info)

    def rollout_done(self, rollout: RolloutFigures) -> None:
        """Write the figures of a whole rollout."""
        assert self.agent is not None
        now = time.perf_counter()
        logger = self.agent.logger
        if self._rollout_began:  # else earlier rollouts left enough to learn from
            seconds = now - self._rollout_began
            logger.record("time/rollout_tokens_per_second", rollout.tokens / seconds)
        figures = episode_figures(self.episodes)
        heard = dict(figures)
        if rollout.mean_log_prob is not None:
            heard["policy/entropy"] = -rollout.mean_log_prob
            logger.record("policy/entropy", -rollout.mean_log_prob)
        if rollout.sampler_gap is not None:
            logger.record("policy/sampler_gap", rollout.sampler_gap)
        untold = _alike_in_tables(figures)
        for key, value in figures.items():
            logger.record(key, value, exclude=("stdout", "log") if key in untold else None)
        self.only_collects = self.env is not None and only_collects(self.env)
        earned = returns(self.episodes)
        if not self.only_collects:
            self.flat_rewards.add(earned)
        write_reward_extra(self.episodes, logger, self.run, self.agent.num_timesteps)
        if rollout.kl is not None:
            for name, figure in vars(rollout.kl).items():
                if figure is not None and (self.episodes or name in ("coefficient", "per_token")):
                    logger.record(f"kl/{name}", figure)
                    heard[f"kl/{name}"] = figure
        if earned:
            environment = float(np.mean(earned))
            weighted = 0.0 if rollout.kl is None else rollout.kl.weighted
            total = rollout.total_reward
            if total is None and weighted is not None:
                total = environment - weighted
            if total is not None:
                logger.record("reward/total", total)
                self.best_reward.add(total)
        for listener in self.listeners:
            listener(heard, self.episodes)
        self.episodes = []
        self.rollouts += 1
        if self.env is not None:
            rollout_ends(self.env, self._offset() + self.agent.num_timesteps, logger)
        if isinstance(self.agent, OffPolicyAlgorithm):
            if self.writer is not None:
                self.writer.is_waiting = False
            self.agent.dump_logs()  # SB3 itself counts single episodes
            if self.writer is not None:
                self.writer.is_waiting = True
        self._rollout_began = 0.0

    def _offset(self) -> int:
        return 0 if self.run is None else self.run.step_offset

    def learned(self, tokens: int) -> None:
        """Called for each minibatch with its completion tokens."""
        self._tokens_learned += tokens

    def update_begins(self) -> None:
        """Called before an update. A rollout that SB3's `log_interval` left out is recorded."""
        assert self.agent is not None
        step = self.agent.num_timesteps
        is_whole = not isinstance(self.agent, OffPolicyAlgorithm)  # else the rollout's end follows
        if is_whole and self.writer is not None and self.writer.last_step != step:
            self.writer.write(self.agent.logger.name_to_value, {}, step)
        self._tokens_learned, self._update_began = 0, time.perf_counter()

    def update_done(self) -> None:
        """Called after an update."""
        assert self.agent is not None
        self.updates += 1
        if self._update_began and self._tokens_learned:
            speed = self._tokens_learned / (time.perf_counter() - self._update_began)
            self.agent.logger.record("time/update_tokens_per_second", speed)
        if self._is_time_for_samples():
            self.write_samples()

    def learning_ended(self) -> None:
        """Write the last set of continuations, unless the weights are those of the last set."""
        if self.updates and (self.sampled_at is None or self.sampled_at[1] != self.updates):
            self.write_samples()

    def _is_time_for_samples(self) -> bool:
        assert self.agent is not None
        step, end = self.agent.num_timesteps, self.agent._total_timesteps
        last_step, last_update = self.sampled_at or (0, 0)
        began_at = self.agent._num_timesteps_at_start if self.began_at is None else self.began_at
        half = (began_at + end) / 2
        is_half = last_step < half <= step
        return step >= end or is_half or self.updates - last_update >= self.sample_every

    def write_samples(self) -> None:
        """Continue the fixed prompts with the policy as it is, into TensorBoard and the record."""
        agent = self.agent
        if agent is None:
            return
        step, policy = agent.num_timesteps, agent.policy
        self.sampled_at = step, self.updates
        if not self.prompts:
            return
        if not isinstance(policy, TextPolicy):
            return
        rows = encode_prompts(policy.lm, self.prompts, max_new_tokens=1, chat=self.chat)
        room = policy.lm.config.max_position_embeddings - max(map(len, rows))
        masks = policy.masks
        if masks is not None and not masks.knows(rows):  # prompts of somebody's own
            masks = None
        tokens = generate_tokens(
            policy.lm,
            rows,
            max_new_tokens=min(self.max_new_tokens, room),
            sampling=policy.sampling,
            masks=masks,
            generator=torch.Generator(policy.lm.device).manual_seed(0),
            stop_ids=() if self.chat is None else self.chat.stop_ids,
        )
        texts = policy.lm.tokenizer.decode_continuations(rows, tokens)
        pairs = list(zip(self.prompts, texts, strict=True))
        for output in agent.logger.output_formats:
            # Not by `record`, which would write it with the rollout after these weights.
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.add_text("samples/continuations", _table(pairs), step)
                output.writer.flush()
        if self.run is not None:
            for prompt, text in pairs:
                self.run.add_sample(self.run.step_offset + step, prompt, text)
            self.rows_until.samples = self.run.step_offset + step

    def join_logger(self) -> None:
        """Join SB3's logger, which is a new object at every `learn`."""
        assert self.agent is not None
        logger = self.agent.logger
        if self.run is not None and self.writer not in logger.output_formats:
            if self.writer is not None and self.writer.last_row is not None:
                self.rows_until.metrics = self.writer.last_row
            self.writer = JSONLines(self.run.metrics_path)
            self.writer.step_offset = self.run.step_offset
            self.writer.last_row = self.rows_until.metrics
            self.writer.is_waiting = isinstance(self.agent, OffPolicyAlgorithm)
            logger.output_formats.append(self.writer)
        if getattr(logger, "recorder", None) is self:
            return
        self._watch(logger)
        step, before = self.agent.num_timesteps, self.goes_on
        self.goes_on = None
        mark_start(logger, step)  # first of all: it purges from this step on
        if not step:
            _explain_figures(logger)
        if before is not None and before.step == step:
            before.go_on(logger, self.writer)
            if self.sampled_at is not None:
                return
        else:
            self.began_at = self.agent._num_timesteps_at_start
        if self.sampled_at != (step, self.updates):
            self.write_samples()

    def _watch(self, logger: Logger) -> None:
        """Hear from a logger where updates begin and end: SB3 calls nobody else then."""
        record = logger.record

        def heard(key: str, value: Any, exclude: str | tuple[str, ...] | None = None) -> None:
            record(key, value, exclude)
            if key == _UPDATE_BEGINS:
                self.update_begins()
            elif key == _UPDATE_DONE:
                self.update_done()

        logger.record = heard  # type: ignore[method-assign]
        vars(logger)["recorder"] = self


def recorder_of(agent: BaseAlgorithm) -> Recorder | None:
    """The recorder of an agent made by `make_agent`; None for others."""
    buffer = getattr(agent, "rollout_buffer", None) or getattr(agent, "replay_buffer", None)
    return getattr(agent if buffer is None else buffer, "recorder", None)


def _alike_in_tables(keys: Iterable[str]) -> set[str]:
    """Keys that SB3's printed table would cut to one name, which is an error there."""
    names = {key: key.partition("/")[2] for key in keys}
    long = {key: name[:30] for key, name in names.items() if len(name) > 33}
    counts = Counter(long.values())
    return {key for key, shown in long.items() if counts[shown] > 1}


def _explain_figures(logger: Logger) -> None:
    """Write the table of figures on TensorBoard's text page."""
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_text("figures/meaning", figures_table(figures()), 0)


def _table(pairs: Sequence[tuple[str, str]]) -> str:
    """What TensorBoard's text page shows of prompts and their continuations."""
    return markdown_table(("prompt", "continuation"), pairs)
