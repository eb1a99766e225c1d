"""What the state of an agent's checkpoint may hold: numbers, names and tensors, each in its place.

A checkpoint may come from anybody: a value of another type, or a keyword that says where something
is written, is refused before anything is built from it.
"""

import inspect
import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from textgym.agents.building.named_files import KEYWORDS_WITH_PATHS
from textgym.agents.building.specs import AgentSpec
from textgym.errors import InputError
from textgym.saved_fields import SavedFields
from textgym.signatures import constructors

_UNITS = ("step", "episode")  # of SB3's train_freq


def check_agent_state(state: Any, path: object) -> None:
    """Raises unless the state of a checkpoint has the fields that `save_agent` writes.

    :param path: of the file, for the error.
    :raises InputError: naming the field.
    """
    fields = SavedFields(state, str(path))
    for name in ("num_timesteps", "n_updates"):
        fields.whole(name)
    if fields.has("policy_seed"):
        fields.whole("policy_seed")
    if fields.has("kl_coefficient"):
        fields.number("kl_coefficient")
    _check_tensors(fields)
    settings = fields.table("settings")
    settings.text("agent")
    settings.whole("n_envs", 1, 10**9)
    settings.number("kl_coef")
    settings.text("kl_estimator")
    for name in ("kl_target", "final_learning_rate"):
        settings.value(name)
        if settings.has(name):
            settings.number(name)
    settings.value("seed")
    if settings.has("seed"):
        settings.whole("seed", 0, 2**32 - 1)
    if settings.has("step_offset"):
        settings.whole("step_offset")
    environment = fields.table("environment")
    environment.text("id")
    environment.value("reward")
    if environment.has("reward"):
        environment.text("reward")
    if "tokenizer" in environment.table("env_kwargs").content:
        raise InputError(f"{path}: names a tokenizer, but has its own: leave it out of env_kwargs")
    for table in (settings, environment):
        if table.has("not_saved"):
            table.texts("not_saved")
    settings.table("keywords")
    if fields.has("files"):
        files = fields.table("files")
        for name in files.content:
            for file in files.table(name).content:
                files.table(name).text(file)
    for name in ("also", "training", "computed_with"):
        if fields.has(name):
            fields.table(name)
    if fields.has("is_cut_short"):
        fields.flag("is_cut_short")


def check_saved_keywords(keywords: dict[str, Any], spec: AgentSpec, path: object) -> None:
    """Raises unless the keywords of a checkpoint are numbers, or words where words are expected.

    :raises InputError: naming the first that is not, or that names a place to write to.
    """
    words = _keywords_with_words(spec)
    for name, value in keywords.items():
        inside = value.items() if isinstance(value, dict) else [(name, value)]
        for key, item in inside:
            is_word = isinstance(item, str) and (key in words or key in KEYWORDS_WITH_PATHS)
            if key == "train_freq" and isinstance(item, list):
                item = [part for part in item if part not in _UNITS]
            if not (is_word or _is_numbers(item)):
                raise InputError(
                    f"{path}: the keyword {key!r} must be a number here, got {item!r:.60}: pass "
                    f"{name}=... yourself if you want it"
                )


def _keywords_with_words(spec: AgentSpec) -> set[str]:
    """The keywords of an agent that are words unless something else is given."""
    classes = spec.algorithm_class, spec.policy_class
    owners = [owner for cls in classes for owner in constructors(cls)]
    parameters = (
        parameter
        for owner in owners
        for parameter in inspect.signature(vars(owner)["__init__"]).parameters.values()
    )
    named = {parameter.name for parameter in parameters if isinstance(parameter.default, str)}
    return {*named, "optimizer"}


def _is_numbers(value: Any) -> bool:
    """Whether a value is a number, a truth value or None, or holds nothing else."""
    return all(
        leaf is None or (isinstance(leaf, bool | int | float) and math.isfinite(leaf))
        for leaf in _leaves(value, depth=4)
    )


def _leaves(value: Any, depth: int) -> Iterator[Any]:
    if depth and isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, depth - 1)
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, depth - 1) if isinstance(key, str) else iter([key, value])
    else:
        yield value


def _check_tensors(fields: SavedFields) -> None:
    values = fields.table("value").content
    for name, value in values.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise InputError(f"{fields.path}: value {name!r:.60} must be a tensor of numbers")
    fields.table("optimizer")
    if fields.has("generator") and not isinstance(fields.value("generator"), Tensor):
        raise fields.error("generator", "the state of a generator")
