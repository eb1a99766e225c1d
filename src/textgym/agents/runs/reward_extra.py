"""What a reward model is told of the training, and what it wants recorded beside its texts."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.runs.markdown import markdown_table
from textgym.agents.runs.run import Run
from textgym.json_lines import append_line
from textgym.rewards import Reward
from textgym.run_files import REWARD_EXTRA
from textgym.storage import json_text
from textgym.trl_rewards import TrainerState, set_trainer_state

_SHOWN = 8  # texts of a rollout on TensorBoard's page; the file has all of them


def tell_reward(env: VecEnv, agent: BaseAlgorithm, updates: int) -> None:
    """Give the reward models of an environment that were written for TRL their `trainer_state`.

    :param updates: of the weights, so far.
    """
    state = trainer_state(agent, updates)
    for reward in _rewards_of(env):
        set_trainer_state(reward, state)


def trainer_state(agent: BaseAlgorithm, updates: int) -> TrainerState:
    """How far a training is; see `TrainerState`."""
    tokens, total = agent.num_timesteps, max(agent._total_timesteps, 1)
    per_update = tokens / updates if updates else 0
    if isinstance(agent, OnPolicyAlgorithm):
        per_update = agent.n_steps * agent.n_envs
    updates_in_all = math.ceil(total / per_update) if per_update else 1
    return TrainerState(
        global_step=updates,
        max_steps=max(updates_in_all, updates, 1),
        epoch=min(tokens / total, 1.0),
        num_input_tokens_seen=tokens,
    )


def write_reward_extra(
    episodes: Sequence[dict[str, Any]], logger: Logger, run: Run | None, step: int
) -> None:
    """Write the texts of a rollout for which a reward model gave further columns.

    :param episodes: infos of their last steps.
    :param run: whose `reward_extra.jsonl` gets a row for each; its step counts through all
        `learn`s.
    :param step: SB3's count.
    :raises StorageError: if it cannot be written.
    """
    texts = [info for info in episodes if "reward_extra" in info]
    if not texts:
        return
    if run is not None:
        for info in texts:
            row = {"step": run.step_offset + step, **_row(info)}
            append_line(run.directory / REWARD_EXTRA, json_text(row))
    columns = list(dict.fromkeys(name for info in texts for name in info["reward_extra"]))
    rows = [
        [*_texts_of(info), *(_shown(info["reward_extra"].get(name)) for name in columns)]
        for info in texts[:_SHOWN]
    ]
    table = markdown_table(("prompt", "completion", "reward", *columns), rows)
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            output.writer.add_text("samples/reward_extra", table, step)


def _row(info: dict[str, Any]) -> dict[str, Any]:
    reward = info.get("episode", {}).get("r")
    return {
        "prompt": info.get("prompt"),
        "completion": info.get("completion"),
        "reward": None if reward is None else float(reward),
        "extra": info["reward_extra"],
    }


def _texts_of(info: dict[str, Any]) -> list[str]:
    row = _row(info)
    reward = "" if row["reward"] is None else f"{row['reward']:.4g}"
    return [_shown(row["prompt"]), _shown(row["completion"]), reward]


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def _rewards_of(env: VecEnv) -> Iterable[Reward]:
    """Of an environment in this process; of others nothing is known here."""
    base = env.unwrapped
    native = getattr(base, "scores", None)
    if native is not None:
        return [native.task.reward]
    tasks = [getattr(one.unwrapped, "task", None) for one in getattr(base, "envs", [])]
    rewards = {id(task.reward): task.reward for task in tasks if task is not None}
    return rewards.values()
