"""The settings of a run: which values a file can hold, and reading them back."""

from pathlib import Path
from typing import Any

import numpy as np

from textgym.constraints import AnyConstraint
from textgym.errors import InputError
from textgym.paths import expand
from textgym.run_files import CONFIG
from textgym.yaml_files import read_yaml


def is_json(value: Any) -> bool:
    """Whether JSON and YAML hold a value as it is."""
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def to_json(value: Any) -> Any:
    """A path as text, a tuple as a list, a number of NumPy's as a plain one, and so on inside.

    Everything else stays as it is.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, AnyConstraint):
        return dict(vars(value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item) for key, item in value.items()}
    return value


def read_config(directory: str | Path) -> dict[str, Any]:
    """The configuration of a run.

    :raises InputError: if there is none that can be read.
    """
    path = expand(directory) / CONFIG
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a table of settings")
    return content
