"""`--config FILE.yaml`: the flags of a verb, written down."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from textgym.errors import InputError, unknown_name
from textgym.paths import expand
from textgym.storage import require_regular_file


def read_config_file(
    path: str | Path, *, verb: str, known: Collection[str], given: Collection[str] = ()
) -> dict[str, Any]:
    """The settings of a YAML file, by parameter name; keys may be written with - or _.

    A run's own `config.yaml` is such a file.

    :param verb: what the settings are for; a file that names another `verb` is refused.
    :param known: the parameter names that the verb takes.
    :param given: those that are given beside the file, and so need not stand in it.
    :raises InputError: if the file cannot be read, holds something else than settings, or is of a
        run that was made with objects, which no file holds.
    :raises UnknownNameError: for an unknown key, with the nearest known one.
    """
    path = expand(path)
    content = read_raw(path)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: expected settings like 'learning-rate: 0.001', got {type(content).__name__}"
        )
    settings: dict[str, Any] = {}
    for key, value in content.items():
        name = str(key).replace("-", "_")
        if name == "verb":
            if str(value).replace("_", "-") != verb:
                raise InputError(f"{path}: holds the settings of {value!r}, not of {verb!r}")
            continue
        if name == "not_saved":
            lost = [str(item) for item in value or ()] if isinstance(value, list) else []
            lost = [item for item in lost if item not in given]
            if lost:
                raise InputError(
                    f"{path}: the run was made with an object as {lost[0]!r}, which no file holds: "
                    f"give {lost[0]} beside it, or call textgym.{verb.replace('-', '_')}(...) in "
                    "Python"
                )
            continue
        if name not in known:
            raise unknown_name(f"key in {path}:", str(key), known)
        if name in settings:
            raise InputError(f"{path}: {key!r} stands there twice, with - and with _")
        settings[name] = value
    return {name: value for name, value in settings.items() if value is not None}


def read_raw(path: str | Path) -> Any:
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
