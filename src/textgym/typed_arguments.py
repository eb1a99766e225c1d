"""Arguments written as text ("target=40"), as the signature of what takes them wants them."""

import collections.abc
import contextlib
import enum
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textgym.errors import InputError

_WORDS = {"true": True, "false": False, "none": None, "null": None}
_EXPECTED = {bool: "true or false", int: "a whole number", float: "a number"}
_SEVERAL: dict[Any, Callable[[list[Any]], Any]] = {
    list: list,
    collections.abc.Sequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    set: set,
    collections.abc.Set: set,
    frozenset: frozenset,
    tuple: tuple,
}


def split_arguments(spec: str, kind: str) -> tuple[str, dict[str, str]]:
    """A name, and the arguments that follow it after commas: "length,target=40".

    :param kind: what is named, for errors.
    :raises InputError: for what is no name=value, or a name that is given twice.
    """
    name, *parts = spec.split(",")
    arguments: dict[str, str] = {}
    for part in parts:
        key, separator, value = part.partition("=")
        key = key.strip()
        if not separator or not key.isidentifier():
            raise InputError(f"{kind} {spec!r}: expected name=value after a comma, got {part!r}")
        if key in arguments:
            raise InputError(f"{kind} {spec!r}: {key} is given twice: leave one out")
        arguments[key] = value
    return name, arguments


def typed_arguments(
    function: Callable[..., Any], texts: Mapping[str, str], label: str
) -> dict[str, Any]:
    """Values for a function's parameters: a text stays one where a text is wanted.

    So a pattern that is a number stays a pattern, and one value where several are wanted is a list
    of one. Where neither annotation nor default says what is wanted, a value is read as JSON, or
    else is a word.

    :param label: what takes them, for errors.
    :raises InputError: for a text that is not what its parameter takes.
    """
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except NameError:  # an annotation of names that are there for a type checker only
        parameters = inspect.signature(function).parameters
    return {name: _typed(name, text, parameters.get(name), label) for name, text in texts.items()}


def _typed(name: str, text: str, parameter: inspect.Parameter | None, label: str) -> Any:
    wanted = _kinds(parameter)
    as_json = _as_json(text)
    if not wanted:
        return as_json
    if type(None) in wanted and _WORDS.get(text.lower(), text) is None:
        return None
    named = _named(wanted)
    for word, value in named:
        if word == text:
            return value
    if isinstance(as_json, list) and any(kind not in (str, bool, int, float) for kind in wanted):
        return as_json
    if str in wanted:
        return as_json if isinstance(as_json, str) else text
    if Path in wanted:
        return Path(text)
    for kind in (bool, int, float):
        if kind in wanted:
            with contextlib.suppress(ValueError):
                return _number(kind, text)
    known = [_EXPECTED[kind] for kind in (bool, int, float) if kind in wanted]
    known += dict.fromkeys(repr(word) for word, _ in named)
    if known:
        raise InputError(f"{label}: {name} must be {' or '.join(known)}, got {text!r:.60}")
    return _one_of_several(name, text, wanted, label)


def _named(wanted: set[Any]) -> list[tuple[str, Any]]:
    """What stands in a Literal and the members of an enumeration, by the words that name them."""
    found = []
    for kind in wanted:
        if typing.get_origin(kind) is typing.Literal:
            found += [(str(value), value) for value in typing.get_args(kind)]
        elif isinstance(kind, type) and issubclass(kind, enum.Enum):
            found += [(str(member.value), member) for member in kind]
            found += [(name, member) for name, member in kind.__members__.items()]
    return found


def _one_of_several(name: str, text: str, wanted: set[Any], label: str) -> Any:
    """A value by itself where several are taken: a list, tuple or set of one."""
    for kind in wanted:
        make = _SEVERAL.get(typing.get_origin(kind) or kind)
        items = [item for item in typing.get_args(kind) if item is not ...]
        if make is not None and len(items) < 2:
            item = inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, annotation=items[0] if items else Any
            )
            return make([_typed(name, text, item, label)])
    return _as_json(text)


def _kinds(parameter: inspect.Parameter | None) -> set[Any]:
    """The types that a parameter takes; empty where nothing says so."""
    if parameter is None or parameter.kind is parameter.VAR_KEYWORD:
        return set()
    annotation = parameter.annotation
    if annotation is parameter.empty or isinstance(annotation, str):
        default = parameter.default
        is_said = default is not parameter.empty and isinstance(default, bool | int | float | str)
        return {type(default)} if is_said else set()
    return set() if annotation is Any else _members(annotation)


def _members(annotation: Any) -> set[Any]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return {kind for part in typing.get_args(annotation) for kind in _members(part)}
    return {annotation}


def _number(kind: type, text: str) -> bool | int | float:
    if kind is bool:
        value = _WORDS.get(text.strip().lower())
        if value is None:
            raise ValueError
        return value
    return int(text) if kind is int else float(text)


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return {"True": True, "False": False, "None": None}.get(text, text)
