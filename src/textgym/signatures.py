"""What functions and classes say of themselves: keywords that are passed on, and their help."""

import importlib
import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any

from textgym.errors import InputError, unknown_name


def load_attribute(target: str) -> Any:
    """What "module:attribute" names, for targets of our own; `registry.import_reference` checks."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def constructors(cls: type) -> list[type]:
    """`cls`, and those of its bases whose constructors take the keywords that it passes on."""
    chain = []
    for base in cls.__mro__:
        if "__init__" in vars(base):
            chain.append(base)
            kinds = [p.kind for p in inspect.signature(base.__init__).parameters.values()]  # type: ignore[misc]
            if inspect.Parameter.VAR_KEYWORD not in kinds:
                break
    return chain


def parameter_texts(docstring: str) -> dict[str, str]:
    """The `:param name, name: text` lines of a docstring, by name, each on one line."""
    texts: dict[str, str] = {}
    fields = re.split(r"^:", docstring, flags=re.MULTILINE)
    for field in fields[1:]:
        head, separator, text = field.partition(":")
        if not separator or not head.startswith("param "):
            continue
        paragraph = text.split("\n\n")[0]
        for name in head.removeprefix("param ").split(","):
            texts[name.strip()] = " ".join(paragraph.replace("`", "").split())
    return texts


def texts_of(*sources: object) -> dict[str, str]:
    """`parameter_texts` of the docstrings of several objects; the first that has a name wins."""
    texts: dict[str, str] = {}
    for source in sources:
        texts = {**parameter_texts(inspect.getdoc(source) or ""), **texts}
    return texts


def check_table(name: str, given: Any, takers: Sequence[type]) -> None:
    """Raises unless a keyword that is a table has keys that constructors know.

    :raises InputError: if it is no table.
    :raises UnknownNameError: for a key that none of them knows.
    """
    if not isinstance(given, Mapping):
        raise InputError(f"{name} must be a table of settings, got {given!r:.60}")
    known = {
        parameter.name
        for taker in takers
        for parameter in inspect.signature(vars(taker)["__init__"]).parameters.values()
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.name != "self"
    }
    for key in given:
        if key not in known:
            raise unknown_name(f"key of {name}:", str(key), known)
