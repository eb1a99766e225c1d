"""What a training run writes down: text metrics, sample texts, `metrics.jsonl`, TensorBoard.

It rides on Stable-Baselines3's own logger, so that `learn(tb_log_name=...)`, `tensorboard_log` and
`verbose` work as always, and subclasses nothing: a `VecEnv` wrapper sees the finished episodes, and
whoever holds the rollout calls `Recorder.rollout_done` once it is whole, just before SB3 writes its
figures.
Every tag is explained in docs/metrics.md.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from textgym.agents.markdown import markdown_table
from textgym.agents.run_directory import append_line
from textgym.agents.split_rewards import with_split
from textgym.policies.actor_critic import TextActorCriticPolicy
from textgym.policies.generation import encode_prompts, generate_tokens
from textgym.policies.q_policy import SoftQPolicy
from textgym.reward_models.metrics import distinct_n, duplicate_share, repetition
from textgym.storage import json_text

_NOT_TENSORBOARD_ONLY = ("stdout", "log", "json", "csv")


class JSONLines(KVWriter):
    """One JSON object a line, appended: the record of a run, which survives a torn last line."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Write the numbers among the values; one that is not finite as null.

        :raises StorageError: if the file cannot be written.
        """
        row: dict[str, Any] = {"step": step}
        for key, value in sorted(key_values.items()):
            if isinstance(value, int | float | np.number):
                row[key] = float(value)
        append_line(self.path, json_text(row))

    def close(self) -> None:
        """Nothing is left open between two lines."""


@dataclass(frozen=True)
class KLFigures:
    """The KL term of a rollout; docs/metrics.md explains each.

    :param per_episode, weighted: None where no episode ended.
    """

    coefficient: float
    per_token: float
    per_episode: float | None
    weighted: float | None


@dataclass(frozen=True)
class RolloutFigures:
    """What a rollout tells a `Recorder`.

    :param tokens: completion tokens.
    :param mean_log_prob: of the tokens, under the policy that drew them; None if they were given.
    :param kl: None without a KL term.
    :param total_reward: mean of what was optimised, where the algorithm knows it; None: the mean
        reward of the episodes that ended, less `kl.weighted`.
    """

    tokens: int
    mean_log_prob: float | None
    kl: KLFigures | None = None
    total_reward: float | None = None


class Recorder:
    """Collects finished episodes and writes their figures into `agent.logger`.

    :param prompts: texts that are continued again and again, so that a reader sees the change.
    :param max_new_tokens: of these continuations.
    :param directory: a run directory for `metrics.jsonl` and `samples.jsonl`; None writes to
        SB3's logger only.
    :param sample_every: rollouts between two sets of continuations.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        *,
        max_new_tokens: int,
        directory: str | Path | None = None,
        sample_every: int = 10,
    ) -> None:
        self.prompts, self.max_new_tokens = list(prompts), max_new_tokens
        self.directory = None if directory is None else Path(directory)
        self.sample_every = sample_every
        self.agent: BaseAlgorithm | None = None
        self.episodes: list[dict[str, Any]] = []
        self.rollouts = 0
        self._writer: JSONLines | None = None
        self._tokens = 0
        self._rollout_began = self._rollout_ended = 0.0

    def attach(self, agent: BaseAlgorithm, env: "RecordingVecEnv") -> None:
        """Record what `agent` does on `env`."""
        self.agent = agent
        env.recorder = self
        buffer = getattr(agent, "rollout_buffer", None) or getattr(agent, "replay_buffer", None)
        holder: Any = agent if buffer is None else buffer
        holder.recorder = self

    def step_begins(self) -> None:
        """Called before every step: the first one of a rollout starts its clock."""
        if self._rollout_began:
            return
        assert self.agent is not None
        self._open_files()
        if self._rollout_ended:
            seconds = time.perf_counter() - self._rollout_ended
            tokens = self._tokens * getattr(self.agent, "n_epochs", 1)
            if isinstance(self.agent, OffPolicyAlgorithm):
                steps = self.agent.gradient_steps  # -1: as many as the rollout has tokens
                tokens = (steps if steps >= 0 else self._tokens) * self.agent.batch_size
            self.agent.logger.record("time/update_tokens_per_second", tokens / seconds)
        if self.rollouts % self.sample_every == 0:
            self.write_samples()
        self._rollout_began = time.perf_counter()

    def episode_done(self, info: dict[str, Any]) -> None:
        """Keep one finished episode until its rollout is over."""
        self.episodes.append(info)

    def rollout_done(self, rollout: RolloutFigures) -> None:
        """Write the figures of a whole rollout."""
        assert self.agent is not None
        now = time.perf_counter()
        logger = self.agent.logger
        self._tokens = rollout.tokens
        if self._rollout_began:  # else earlier rollouts left enough to learn from
            seconds = now - self._rollout_began
            logger.record("time/rollout_tokens_per_second", self._tokens / seconds)
        if rollout.mean_log_prob is not None:
            logger.record("policy/entropy", -rollout.mean_log_prob)
        for key, value in episode_figures(self.episodes).items():
            logger.record(key, value)
        if rollout.kl is not None:
            for name, figure in vars(rollout.kl).items():
                if figure is not None and (self.episodes or name in ("coefficient", "per_token")):
                    logger.record(f"kl/{name}", figure)
        if self.episodes:
            environment = _mean(self.episodes, "episode", "r")
            weighted = 0.0 if rollout.kl is None else rollout.kl.weighted
            if rollout.total_reward is not None:
                logger.record("reward/total", rollout.total_reward)
            elif weighted is not None:
                logger.record("reward/total", environment - weighted)
        self.episodes = []
        self.rollouts += 1
        if isinstance(self.agent, OffPolicyAlgorithm):
            self.agent.dump_logs()  # SB3 itself would count single episodes
        self._rollout_began, self._rollout_ended = 0.0, time.perf_counter()

    def write_samples(self) -> None:
        """Continue the fixed prompts with the policy as it is, into TensorBoard and the record."""
        agent = self.agent
        if agent is None or not self.prompts:
            return
        policy = agent.policy
        if not isinstance(policy, TextActorCriticPolicy | SoftQPolicy):
            return
        rows = encode_prompts(policy.lm, self.prompts, max_new_tokens=1)
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
        )
        texts = policy.lm.tokenizer.decode_continuations(rows, tokens)
        pairs = list(zip(self.prompts, texts, strict=True))
        agent.logger.record("samples/continuations", _table(pairs), exclude=_NOT_TENSORBOARD_ONLY)
        if self.directory is not None:
            for prompt, text in pairs:
                row = {"step": agent.num_timesteps, "prompt": prompt, "completion": text}
                append_line(self.directory / "samples.jsonl", json_text(row))

    def _open_files(self) -> None:
        """Join SB3's logger, which is a new object at every `learn`."""
        assert self.agent is not None
        if self.directory is None:
            return
        formats = self.agent.logger.output_formats
        if self._writer is None or self._writer not in formats:
            self._writer = JSONLines(self.directory / "metrics.jsonl")
            formats.append(self._writer)


class RecordingVecEnv(VecMonitor):
    """Passes everything through, and finished episodes to a `Recorder`.

    It is a `VecMonitor`, as what `make_vec` gives, so that SB3's `EvalCallback` sees training and
    evaluation environments of one type; it monitors only what is not monitored yet.
    """

    recorder: Recorder | None = None

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.is_monitored = isinstance(venv, VecMonitor)

    def reset(self) -> Any:
        """As the wrapped environment's."""
        return self.venv.reset() if self.is_monitored else super().reset()

    def step_async(self, actions: np.ndarray) -> None:
        """As the wrapped environment's; the first of a rollout starts the recorder's clock."""
        if self.recorder is not None:
            self.recorder.step_begins()
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        """As the wrapped environment's."""
        step_wait = self.venv.step_wait if self.is_monitored else super().step_wait
        observations, rewards, dones, infos = step_wait()
        rewards = with_split(rewards, dones, infos)
        if self.recorder is not None:
            for env in np.flatnonzero(dones):
                self.recorder.episode_done(infos[env])
        return observations, rewards, dones, infos


def episode_figures(episodes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Text metrics of finished episodes, by tag; nothing where no episode ended.

    :param episodes: infos of their last steps, as `TextVecEnv` in `VecMonitor` gives them.
    """
    if not episodes:
        return {}
    texts = [info["completion"] for info in episodes]
    lengths = np.array([info["completion_length"] for info in episodes], dtype=np.float64)
    rewards = np.array([info["episode"]["r"] for info in episodes], dtype=np.float64)
    figures = {
        "reward/environment": float(rewards.mean()),
        "reward/std": float(rewards.std()),
        "text/length": float(lengths.mean()),
        "text/distinct_2": distinct_n(texts, 2),
        "text/repetition": float(np.mean([repetition(text) for text in texts])),
        "text/duplicates": duplicate_share(texts),
    }
    if lengths.std() > 0 and rewards.std() > 0:
        figures["reward/length_correlation"] = float(np.corrcoef(lengths, rewards)[0, 1])
    reasons = [info["finish_reason"] for info in episodes]
    for reason in ("stop", "length", "truncated"):
        figures[f"text/finish_{reason}"] = reasons.count(reason) / len(reasons)
    components: dict[str, list[float]] = {}
    for info in episodes:
        for name, value in info.get("reward_components", {}).items():
            applies = value == value  # NaN: the component says nothing of this text
            components.setdefault(name, []).extend([float(value)] if applies else [])
    for name, values in components.items():
        figures[f"reward_components/{name}"] = float(np.mean(values)) if values else math.nan
    return figures


def _mean(episodes: Sequence[dict[str, Any]], *path: str) -> float:
    total = 0.0
    for info in episodes:
        value: Any = info
        for key in path:
            value = value[key]
        total += float(value)
    return total / len(episodes)


def _table(pairs: Sequence[tuple[str, str]]) -> str:
    """What TensorBoard's text page shows of prompts and their continuations."""
    return markdown_table(("prompt", "continuation"), pairs)
