"""The current folder's modules, where a command line names one: "mine:rhymes", "mine:me/Mine-v0".

Python puts the current folder on its path for `python -m textgym`, but not for the command
`textgym`. It is added only where a module that was named stands there and nowhere else, and last,
so that no file of the folder stands in for a library.
"""

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

NAMES = ("env", "reward", "gold", "shadow", "env_kwargs")  # the flags that may name a module


def see_named_modules(values: Mapping[str, Any]) -> None:
    """Put the current folder on the path if a flag's value names a module that is there.

    :param values: of the flags, by parameter name. Nothing that a checkpoint says counts.
    """
    modules = {name for key in NAMES for name in _modules_in(values.get(key))}
    if any(_stands_only_here(name) for name in modules):
        sys.path.append(os.getcwd())


def _modules_in(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _modules_in(item)
    elif isinstance(value, str):
        module, separator, _ = value.partition(":")
        if separator and all(part.isidentifier() for part in module.split(".")):
            yield module.partition(".")[0]


def _stands_only_here(name: str) -> bool:
    try:
        is_known = name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
    return not is_known and (os.path.isfile(f"{name}.py") or os.path.isdir(name))
