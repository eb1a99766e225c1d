"""`--config FILE.yaml`: the flags of a verb, written down."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from textgym.errors import InputError, unknown_name
from textgym.paths import expand
from textgym.yaml_files import read_yaml


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
    content = read_yaml(path)
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
