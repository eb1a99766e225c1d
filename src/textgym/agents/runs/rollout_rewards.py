"""Reward models that want to know where rollouts begin and end, such as people's.

Any reward model, at any depth of wrappers, may have

    begin_rollout(step)
    end_rollout(step) -> figures

where `step` counts completion tokens through all of a run, and the figures (`LoopFigures`, or
nothing) go into the record. What it is asked between the two is what the policy wrote.

It may have `only_collects` too: true while its scores mean nothing, so that nothing may be learned
from them.
"""

from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv

from textgym.reward_models.shadows import WithShadows
from textgym.reward_parts import every_part


def rollout_begins(env: VecEnv, step: int) -> None:
    """Tell the reward models of an environment that a rollout begins."""
    for reward in _listening(env):
        reward.begin_rollout(step)


def rollout_ends(env: VecEnv, step: int, logger: Logger) -> None:
    """Tell them that it is over, and record what they say.

    :raises InputError: from a reward model.
    """
    for reward in _listening(env):
        told = reward.end_rollout(step)
        if told is None:
            continue
        for key, value in told.figures.items():
            logger.record(key, value)
        for output in logger.output_formats:
            if told.by_labels and isinstance(output, TensorBoardOutputFormat):
                for key, value in told.by_labels.items():
                    output.writer.add_scalar(f"human_by_labels/{key}", value, told.labels)


def can_only_collect(env: VecEnv) -> bool:
    """Whether a reward model that is paid says `only_collects`, true or false."""
    return any(hasattr(part, "only_collects") for part in _paid(env))


def only_collects(env: VecEnv) -> bool:
    """Whether the scores of a reward model that is paid mean nothing yet."""
    return any(getattr(part, "only_collects", False) for part in _paid(env))


def _paid(env: VecEnv) -> Iterator[Any]:
    """The reward models of an environment, at any depth, but for shadows."""
    for reward in _rewards(env):
        yield from every_part(reward.reward if isinstance(reward, WithShadows) else reward)


def _listening(env: VecEnv) -> list[Any]:
    """Those of an environment in this process that listen; each once."""
    rewards = {id(part): part for reward in _rewards(env) for part in every_part(reward)}
    return [reward for reward in rewards.values() if callable(getattr(reward, "end_rollout", None))]


def _rewards(env: VecEnv) -> list[Any]:
    """The reward of each task of an environment in this process."""
    base = env.unwrapped
    native = getattr(base, "scores", None)
    if native is not None:
        return [native.task.reward]
    found = (getattr(one.unwrapped, "task", None) for one in getattr(base, "envs", []))
    return [task.reward for task in found if task is not None]
