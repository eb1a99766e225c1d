"""The steps by name: from "length,min_characters=20", or from a recipe's entry, to a step."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from textgym.envs.texts.preparation.augmentation import Augment
from textgym.envs.texts.preparation.characters import (
    ChineseVariant,
    ControlCharacters,
    Normalize,
    Repair,
    Whitespace,
)
from textgym.envs.texts.preparation.duplicates import Duplicates, NearDuplicates
from textgym.envs.texts.preparation.filters import Language, Length
from textgym.envs.texts.preparation.markup import Markup
from textgym.envs.texts.preparation.quality import Quality
from textgym.envs.texts.preparation.split import Split
from textgym.envs.texts.preparation.step import Step
from textgym.envs.texts.preparation.words import Segment, StopWords
from textgym.errors import InputError, unknown_name
from textgym.paths import absolute
from textgym.typed_arguments import split_arguments, typed_arguments

# In the order in which they make sense.
STEPS: Mapping[str, type[Step]] = {
    kind.key: kind
    for kind in (
        Repair,
        Markup,
        ControlCharacters,
        Normalize,
        ChineseVariant,
        Whitespace,
        Length,
        Quality,
        Language,
        Duplicates,
        NearDuplicates,
        Segment,
        StopWords,
        Split,
        Augment,
    )
}


def step_of(spec: object, *, seed: int = 0) -> Step:
    """A step from what was written for it; a step itself passes.

    :param spec: a name, with arguments after commas: "normalize,form=NFKC".
    :param seed: of a step that draws, unless its arguments say another.
    :raises InputError: for an unknown step, naming the nearest, or arguments that do not fit.
    """
    if isinstance(spec, Step):
        return spec
    if not isinstance(spec, str):
        raise InputError(f"expected a step or its name, got {type(spec).__name__}")
    name, texts = split_arguments(spec, "step")
    name = name.strip().replace("-", "_")
    if name not in STEPS:
        raise unknown_name("step", name, STEPS)
    _check_parameters(name, texts)
    return _made(name, {"seed": seed} | typed_arguments(STEPS[name], texts, f"step {spec!r}"))


def step_from_json(value: Any, where: str) -> Step:
    """A step from a recipe's entry.

    :param where: the recipe, for errors.
    :raises InputError: naming the recipe, for what is no step.
    """
    if not isinstance(value, Mapping) or not isinstance(value.get("step"), str):
        raise InputError(f"{where}: expected a step like {{'step': 'repair'}}, got {value!r:.60}")
    name = value["step"]
    if name not in STEPS:
        raise InputError(f"{where}: {unknown_name('step', name, STEPS)}")
    arguments = {key: item for key, item in value.items() if key != "step"}
    try:
        _check_parameters(name, arguments)
        for field in fields(STEPS[name]):  # type: ignore[arg-type]
            given = arguments.get(field.name)
            if "Path" in str(field.type) and isinstance(given, str):
                arguments[field.name] = Path(given)
        return _made(name, arguments)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _made(name: str, arguments: dict[str, Any]) -> Step:
    known = _parameters(name)
    arguments = {
        key: absolute(value) if isinstance(value, Path) else value
        for key, value in arguments.items()
        if key in known  # a seed is offered to all
    }
    try:
        return STEPS[name](**arguments)
    except TypeError as error:
        raise InputError(f"step {name!r}: {_reason(error)}") from None


def _check_parameters(name: str, given: Mapping[str, Any] | Sequence[str]) -> None:
    known = _parameters(name)
    for key in given:
        if key not in known:
            raise unknown_name(f"argument of step {name!r}:", key, known)


def _parameters(name: str) -> list[str]:
    return [field.name for field in fields(STEPS[name])]  # type: ignore[arg-type]


def _reason(error: TypeError) -> str:
    """What Python says of missing arguments, without the name of the method."""
    return str(error).partition(" ")[2] or str(error)
