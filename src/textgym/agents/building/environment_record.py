"""What a checkpoint keeps of an environment: its id, and what was changed in its task.

Names and JSON values are kept; objects, such as a reward model, are asked for again on loading.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from textgym.agents.runs.settings import is_json, to_json
from textgym.envs.task import Task
from textgym.registry import tasks


def environment_record(
    env_id: str,
    *,
    reward: object = None,
    env_kwargs: Mapping[str, Any] | None = None,
    lost: Iterable[str] = (),
) -> dict[str, Any]:
    """What a checkpoint keeps of an environment: names and JSON values, and what it cannot keep.

    :param reward: the name of a reward model, the reward itself (which is then asked for again), or
        None: the environment's own.
    :param env_kwargs: fields of the task that were replaced.
    :param lost: further names of objects that are asked for again.
    """
    fields = {
        key: to_json(value) for key, value in (env_kwargs or {}).items() if key != "tokenizer"
    }
    kept = {key: value for key, value in fields.items() if is_json(value)}
    is_named = isinstance(reward, str | Path)
    lost = {*lost, *(fields.keys() - kept.keys())}
    if reward is not None and not is_named:
        lost |= {"reward"}
    return {
        "id": env_id,
        "reward": str(reward) if is_named else None,
        "env_kwargs": kept,
        "not_saved": sorted(lost),
    }


def environment_of(task: Task) -> dict[str, Any]:
    """`environment_record` of an environment that was made by hand: its task says what it is.

    Fields that differ from those registered under its id are kept or, as objects, asked for again.
    """
    registered = tasks.resolve(task.id) if task.id in tasks else None
    given: Mapping[str, Any] = registered if isinstance(registered, Mapping) else {}
    changed: dict[str, Any] = {}
    for field in dataclasses.fields(task):
        value = getattr(task, field.name)
        if field.name in ("id", "reward", "tokenizer") or value is given.get(field.name):
            continue
        is_prompts = field.name in ("prompts", "heldout_prompts")
        is_builtin = registered is not None and not given and is_prompts
        if not is_builtin and value != given.get(field.name, field.default):
            changed[field.name] = value
    is_own = task.reward is given.get("reward")
    return environment_record(task.id, reward=None if is_own else task.reward, env_kwargs=changed)
