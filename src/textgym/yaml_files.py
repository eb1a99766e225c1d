"""Reading YAML files that somebody else wrote: no code, no endless values, errors of one line."""

from pathlib import Path
from typing import Any

import yaml

from textgym.errors import InputError
from textgym.paths import expand
from textgym.storage import require_regular_file


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file, by the safe loader.

    :raises InputError: naming the file and the line, if it cannot be read.
    """
    path = require_regular_file(expand(path))
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 (byte {error.start})") from None
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise InputError(f"{path}{line}: not valid YAML ({error.problem})") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split()):.200})") from None
    if not _is_tree(content):
        raise InputError(f"{path}: holds a value that contains itself, or far too many; write less")
    return content


def _is_tree(content: Any, limit: int = 100_000) -> bool:
    """Whether the values have an end: anchors (&a, *a) can nest a list in itself, or a billion."""
    waiting, count = [content], 0
    while waiting and count <= limit:
        value = waiting.pop()
        count += 1
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return not waiting
