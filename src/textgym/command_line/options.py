"""From a function's signature and docstring to the flags of its verb.

The command line has no list of flags of its own: names, kinds and defaults come from the signature,
help from the `:param` lines, so that the two cannot differ.
"""

import contextlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import typer

from textgym.errors import InputError
from textgym.paths import check_path
from textgym.signatures import texts_of
from textgym.typed_arguments import typed_arguments

Kind = Literal["text", "integer", "number", "switch", "texts", "table"]

_TYPES: dict[Kind, Any] = {
    "text": str,
    "integer": str,  # converted here, so that errors read the same as those of a file
    "number": str,
    "switch": bool,
    "texts": list[str],
    "table": list[str],
}
_EXPECTED: dict[Kind, str] = {
    "text": "a text",
    "integer": "a whole number",
    "number": "a number",
    "switch": "true or false",
    "texts": "a text or a list of texts",
    "table": "a table of settings",
}


@dataclass(frozen=True)
class Flag:
    """One option of a verb, or one of its arguments.

    :param name: the parameter's name; the option is `--name` with - for _ (`import_`: `--import`).
    :param default: what the function fills in; `inspect.Parameter.empty` if it must be given.
    :param is_argument: given by position.
    :param is_path: names a file or a directory.
    :param entries_of: of a table, what takes its entries as parameters, which say their types.
    :param word: may stand for the number, alone or with a number after it ("auto_0.1"); "": none.
    """

    name: str
    kind: Kind
    help: str
    default: Any = None
    is_argument: bool = False
    is_path: bool = False
    word: str = ""
    entries_of: Callable[..., Any] | None = None

    @property
    def option(self) -> str:
        """As written on the command line."""
        return (
            self.name.upper()
            if self.is_argument
            else "--" + self.name.rstrip("_").replace("_", "-")
        )

    @property
    def is_required(self) -> bool:
        """Whether the function cannot do without it."""
        return self.default is inspect.Parameter.empty


def flags_of(
    function: Callable[..., Any],
    *,
    documented_by: Iterable[object] = (),
    hidden: Iterable[str] = (),
) -> list[Flag]:
    """The flags of a function's parameters, those that take objects only left out.

    :param documented_by: functions or classes whose `:param` lines help where its own say nothing.
    :param hidden: parameters that are not for the command line.
    """
    texts = texts_of(function, *documented_by)
    flags = [
        flag_of(parameter, texts.get(parameter.name, ""))
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in (*hidden, "self")
    ]
    return [flag for flag in flags if flag is not None]


def flag_of(parameter: inspect.Parameter, help: str) -> Flag | None:
    """The flag of a parameter; None for one that takes objects only."""
    kind = kind_of(parameter)
    if kind is None:
        return None
    return Flag(
        parameter.name,
        kind,
        help,
        parameter.default,
        is_argument=parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.default in (parameter.empty, ()),
        is_path=_takes_paths_only(parameter),
        word=parameter.default if kind == "number" and isinstance(parameter.default, str) else "",
    )


def kind_of(parameter: inspect.Parameter) -> Kind | None:
    """What a parameter takes on the command line; None if only Python can give it."""
    if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
        return None
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    parts = [part.removeprefix("typing.") for part in _alternatives(text)]
    if any(re.match(r"(\w+\.)*(Sequence|list)\[.*\b(str|Any)\b", part) for part in parts):
        return "texts"
    if any(part.startswith("dict[") for part in parts):
        return "table"
    for name, kind in (("bool", "switch"), ("float", "number"), ("int", "integer")):
        if name in parts:
            return kind  # type: ignore[return-value]
    return "text" if "str" in parts else None


def _takes_paths_only(parameter: inspect.Parameter) -> bool:
    """Whether a text that it takes names a file or a directory, by its annotation."""
    text = str(parameter.annotation)
    return bool(re.search(r"\bPath\b", text)) and parameter.name not in ("reward", "gold")


def check_texts(
    flags: Mapping[str, Flag], values: Mapping[str, Any], *, label: Callable[[str], str]
) -> None:
    """Raises unless the texts among the values can be what they are for.

    :param label: how a flag is written in the error.
    :raises InputError: for a path that no file system takes, or a NUL.
    """
    for name, value in values.items():
        if flags[name].kind not in ("text", "texts"):
            continue
        for text in [value] if isinstance(value, str) else value:
            if flags[name].is_path:
                check_path(text, label=label(name))
            elif "\0" in text:
                raise InputError(f"{label(name)} must be a text without NUL, got {text!r:.60}")


def _alternatives(annotation: str) -> list[str]:
    """The members of a union, outside of brackets."""
    parts, depth = [""], 0
    for character in annotation:
        depth += (character == "[") - (character == "]")
        if character == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def typer_function(
    flags: Iterable[Flag], run: Callable[[dict[str, Any]], None], description: str
) -> Callable[..., None]:
    """A function whose signature Typer reads; it hands over what was given on the command line."""

    def command(**values: Any) -> None:
        run({name: value for name, value in values.items() if value not in (None, [], ())})

    parameters = []
    for flag in flags:
        annotation: Any = Annotated[_TYPES[flag.kind] | None, _typer_parameter(flag)]
        parameters.append(
            inspect.Parameter(
                flag.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
            )
        )
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    command.__doc__ = description
    return command


def _typer_parameter(flag: Flag) -> Any:
    text = flag.help
    if flag.is_argument:
        return typer.Argument(metavar=flag.name.upper(), help=text, show_default=False)
    if flag.is_required:
        text = f"{text} (required)"
    elif flag.default not in (None, ()):
        shown = str(flag.default).lower() if flag.kind == "switch" else str(flag.default)
        text = f"{text} (default: {shown})"
    names = [flag.option]
    if flag.kind == "switch":
        names = [f"{flag.option}/--no-{flag.option[2:]}"]
    metavar = f"NUMBER|{flag.word}" if flag.word else None
    metavar = metavar or {"table": "KEY=VALUE", "switch": None}.get(flag.kind, flag.kind.upper())
    if flag.kind == "texts":
        metavar = "TEXT"
    return typer.Option(*names, help=text.strip(), show_default=False, metavar=metavar)


def with_default(flag: Flag, default: Any) -> Flag:
    """The same flag with another default in its help."""
    return replace(flag, default=default)


def from_command_line(flag: Flag, value: Any) -> Any:
    """A value as Typer gives it, as the function takes it.

    :raises InputError: for what is no number, or a table's entry that is not KEY=VALUE, or not of
        the type that its key has.
    """
    if flag.kind == "table":
        return _table(flag, value)
    if flag.kind in ("integer", "number"):
        return _number(flag, value, flag.option)
    if flag.kind == "texts" and len(value) == 1 and flag.is_argument:
        return value[0]
    return list(value) if flag.kind == "texts" else value


def _table(flag: Flag, entries: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE entries; a value is of its key's type, or else read as JSON, or a word."""
    texts = {}
    for entry in entries:
        key, separator, value = entry.partition("=")
        if not separator or not key.strip():
            raise InputError(f"{flag.option}: expected KEY=VALUE, got {entry!r}")
        texts[key.strip().replace("-", "_")] = value
    return typed_arguments(flag.entries_of or _anything, texts, flag.option)


def _anything(**entries: Any) -> None:
    """Takes entries of which nothing is known."""


def from_file(flag: Flag, value: Any, where: str) -> Any:
    """A value as YAML gives it, as the function takes it.

    :param where: the file, for the error.
    :raises InputError: if it is of another kind.
    """
    error = InputError(f"{where}: {flag.name} must be {_EXPECTED[flag.kind]}, got {value!r:.60}")
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if flag.kind == "switch":
        if not isinstance(value, bool):
            raise error
        return value
    if flag.kind == "table":
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise error
        return {key.replace("-", "_"): item for key, item in value.items()}
    if flag.kind == "texts":
        items = value if isinstance(value, list) else [value]
        may_be_empty = flag.default == ()
        if not (items or may_be_empty) or not all(isinstance(item, str) for item in items):
            raise error
        return value
    if flag.kind == "text":
        if not isinstance(value, str) and not is_number:
            raise error
        return str(value)
    return _number(flag, value, f"{where}: {flag.name}")


def _number(flag: Flag, value: Any, name: str) -> int | float | str:
    """A number out of a number or a text (YAML, too, reads 1e-4 as a text), or the flag's word."""
    if flag.word and isinstance(value, str) and value.partition("_")[0] == flag.word:
        return value
    if flag.kind == "integer" and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            return int(value)
    number = None
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            number = float(value)
    is_whole = number is not None and number.is_integer()
    if number is None or math.isnan(number) or (flag.kind == "integer" and not is_whole):
        expected = _EXPECTED[flag.kind] + (f" or {flag.word!r}" if flag.word else "")
        raise InputError(f"{name} must be {expected}, got {value!r:.60}")
    return int(number) if flag.kind == "integer" else number
