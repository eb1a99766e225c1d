"""What a checkpoint may make us read: the files that it was made with, and no others.

An agent's checkpoint names its prompts, its preferences and its reward model by their paths, and
with each the SHA-256 of what it held. Somebody who made a checkpoint up can name any path, but not
what is in a file that he never saw: such a file is not read because a checkpoint says so.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from textgym.agents.runs.fingerprints import NOTHING, fingerprint
from textgym.errors import InputError
from textgym.manifest import MANIFEST
from textgym.paths import expand, is_directory
from textgym.policies.language_model.run_checkpoints import checkpoints_of

KEYWORDS_WITH_PATHS = frozenset({"preferences"})


def named_files(
    environment: Mapping[str, Any], keywords: Mapping[str, Any]
) -> dict[str, dict[str, str]]:
    """`{setting: {path: SHA-256}}` of the files that the settings of an agent name.

    :param environment: as `environment_record` gives it.
    :param keywords: the algorithm's.
    """
    return {
        setting: {path: _content(path) for path in paths}
        for setting, paths in _named(environment, keywords).items()
    }


def check_named_files(
    directory: str | Path, state: Mapping[str, Any], given: Collection[str]
) -> None:
    """Raises unless each file that a checkpoint names is the one that it was made with.

    What is not there is left to whoever wants to read it.

    :param state: of the checkpoint.
    :param given: settings that the caller passes himself, and so trusts.
    :raises InputError: naming the file, and how to allow it.
    """
    recorded = state.get("files") or {}
    for setting, paths in _named(state["environment"], state["settings"]["keywords"]).items():
        for path in paths if setting not in given else ():
            now = _content(path)
            before = recorded.get(setting, {}).get(path)
            if os.path.lexists(expand(path)) and (now == NOTHING or now != before):
                raise InputError(
                    f"{directory}: names {path!r:.200} as its {setting}, where there is something "
                    "else than when it was saved, and a checkpoint chooses no files to read: pass "
                    f"{_how(setting)} yourself if you trust it"
                )


def _named(environment: Mapping[str, Any], keywords: Mapping[str, Any]) -> dict[str, list[str]]:
    """The paths behind each setting that may be one."""
    fields = environment["env_kwargs"]
    rewards = (environment["reward"], fields.get("reward"))
    named = {
        "reward": [path for reward in rewards for path in _in_reward(reward)],
        "prompts": [fields.get("prompts")],
        "heldout_prompts": [fields.get("heldout_prompts")],
        **{name: [keywords.get(name)] for name in KEYWORDS_WITH_PATHS},
    }
    found = {name: [p for p in paths if isinstance(p, str)] for name, paths in named.items()}
    return {name: paths for name, paths in found.items() if paths}


def _in_reward(reward: object) -> list[str]:
    """The paths in a reward's name: its directory, or files among its arguments."""
    if not isinstance(reward, str):
        return []
    if is_directory(reward):
        return [reward]
    values = [argument.partition("=")[2] for argument in reward.split(",")[1:]]
    places = {value: os.path.expanduser(value) for value in values if value and "\0" not in value}
    return [v for v, place in places.items() if os.path.lexists(place) and not os.path.isdir(place)]


def _content(path: str) -> str:
    """The SHA-256 of a regular file, or of the manifest of a saved reward model."""
    place = expand(path)
    if place.is_dir():
        models = checkpoints_of(place, "reward_model.json")  # nothing else is walked through
        place = models[0] / MANIFEST if models else place
    return fingerprint(place) if place.is_file() else NOTHING


def _how(setting: str) -> str:
    return "env_kwargs={'prompts': ...}" if setting == "prompts" else f"{setting}=..."
