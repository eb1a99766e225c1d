"""Arguments written as text ("target=40"), as the signature of what takes them wants them."""

import contextlib
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


def typed_arguments(
    function: Callable[..., Any], texts: Mapping[str, str], label: str
) -> dict[str, Any]:
    """Values for a function's parameters: a text stays one where a text is wanted.

    So a pattern that is a number stays a pattern. Where neither annotation nor default says what is
    wanted, a value is read as JSON, or else is a word.

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
    if isinstance(as_json, list) and any(kind not in (str, bool, int, float) for kind in wanted):
        return as_json
    if str in wanted or Path in wanted:
        return as_json if isinstance(as_json, str) else text
    for kind in (bool, int, float):
        if kind in wanted:
            with contextlib.suppress(ValueError):
                return _number(kind, text)
    known = [_EXPECTED[kind] for kind in (bool, int, float) if kind in wanted]
    if not known:
        return as_json
    raise InputError(f"{label}: {name} must be {' or '.join(known)}, got {text!r:.60}")


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
    if origin is typing.Literal:
        return {type(value) for value in typing.get_args(annotation)}
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
