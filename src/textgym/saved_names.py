"""What a checkpoint says by name: objects that it does not hold, code that it may not import."""

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from textgym import registry
from textgym.built_in_rewards import NEVER_FROM_A_CHECKPOINT
from textgym.errors import InputError
from textgym.paths import is_directory


def check_given_again(directory: str | Path, lost: Collection[str], given: Collection[str]) -> None:
    """Raises where an object that a checkpoint does not hold was not passed again.

    :param lost: the names of those objects.
    :raises InputError: naming the first.
    """
    for name in lost:
        if name not in given:
            raise InputError(
                f"{directory}: the agent was made with an object as {name!r}, which a checkpoint "
                f"does not hold: pass {name}=... again"
            )


def check_names_no_code(
    directory: str | Path, environment: Mapping[str, Any], given: Collection[str]
) -> None:
    """A checkpoint is data: nothing that it names may be imported because of it.

    :param given: what the caller passed himself, and so trusts.
    :raises InputError: if it names a module, saying how to allow it.
    """
    module, separator, _ = str(environment["id"]).rpartition(":")
    if separator and module not in sys.modules:
        raise InputError(
            f"{directory}: its environment is {environment['id']!r}, and a checkpoint imports no "
            f"code: import {module} first if you trust it"
        )
    for reward in (environment["reward"], environment["env_kwargs"].get("reward")):
        name = str(reward).partition(",")[0]
        is_code = ":" in name and name not in registry.rewards and not is_directory(str(reward))
        if reward is not None and is_code and "reward" not in given:
            raise InputError(
                f"{directory}: its reward is {reward!r}, and a checkpoint imports no code: pass "
                "reward=... yourself if you trust it"
            )
        if name in NEVER_FROM_A_CHECKPOINT and "reward" not in given:
            raise InputError(
                f"{directory}: its reward is {reward!r}, and a checkpoint asks no server and opens "
                "no other model: pass reward=... yourself if you trust it"
            )
