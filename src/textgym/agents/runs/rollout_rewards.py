"""Reward models that want to know where rollouts begin and end, such as people's.

Any reward model, at any depth of wrappers, may have

    begin_rollout(step)
    end_rollout(step) -> figures

where `step` counts completion tokens through all of a run, and the figures (`LoopFigures`, or
nothing) go into the record. What it is asked between the two is what the policy wrote.
"""

from typing import Any

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv

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


def _listening(env: VecEnv) -> list[Any]:
    """Those of an environment in this process that listen; each once."""
    base = env.unwrapped
    native = getattr(base, "scores", None)
    if native is not None:
        tasks = [native.task]
    else:
        found = (getattr(one.unwrapped, "task", None) for one in getattr(base, "envs", []))
        tasks = [task for task in found if task is not None]
    rewards = {id(part): part for task in tasks for part in every_part(task.reward)}
    return [reward for reward in rewards.values() if callable(getattr(reward, "end_rollout", None))]
