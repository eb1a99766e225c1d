"""What a study's directory holds beside its runs: settings, held-out prompts, `study.json`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from textgym.agents.runs.held_out import prompts_digest
from textgym.agents.runs.occupied import is_empty
from textgym.agents.runs.settings import read_config
from textgym.errors import InputError
from textgym.json_lines import read_rows
from textgym.run_files import CONFIG, HELD_OUT_PROMPTS
from textgym.storage import (
    cannot_write,
    json_text,
    read_json,
    write_json_atomically,
    write_text_atomically,
)

STUDY = "study.json"
REPLACED = ".replaced"  # hidden, so that no reader of runs takes what is in it for the study's


def check_study_place(
    out: Path, *, env: str, timesteps: int, prompts: Sequence[Mapping[str, Any]]
) -> None:
    """Raises unless a study of these may begin or go on in a directory.

    :raises InputError: for a file, something else than a study, or a study that is not comparable.
    """
    if os.path.lexists(out) and not out.is_dir():
        raise InputError(f"{out}: is a file; --out names a directory")
    if is_empty(out):
        return
    verb = read_config(out).get("verb") if (out / CONFIG).is_file() else None
    if verb != "compare":
        what = f"a run of {verb!r}" if verb else "something else"
        raise InputError(
            f"{out}: holds {what} and no study; --out names a new directory, an empty one, or that "
            "of a study to go on with"
        )
    config = read_config(out)
    for name, given in (("env", env), ("timesteps", timesteps)):
        if config.get(name) != given:
            raise InputError(
                f"{out}: holds a study with {name}={config.get(name)!r}, which runs with "
                f"{name}={given!r} cannot be compared with: choose another --out"
            )
    path = out / HELD_OUT_PROMPTS
    if path.is_file() and prompts_digest(read_rows(path)) != prompts_digest(prompts):
        raise InputError(
            f"{out}: holds a study on other held-out prompts ({path.name}), so its runs cannot be "
            "compared with new ones: give that file as --prompts, or choose another --out"
        )


def write_study_files(
    out: Path, config: Mapping[str, Any], prompts: Sequence[Mapping[str, Any]]
) -> None:
    """Write the settings of a study and the prompts that all its runs continue.

    :raises StorageError: if they cannot be written.
    """
    lines = "".join(json_text(dict(row)) + "\n" for row in prompts)
    path = out / HELD_OUT_PROMPTS
    if not path.is_file() or path.read_text(encoding="utf-8") != lines:
        write_text_atomically(path, lines)
    text = yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True)
    write_text_atomically(out / CONFIG, text)


def read_study_file(out: Path) -> dict[str, Any]:
    """`study.json`: `cells` (label, settings, slug, reward), `seeds`, `timesteps`, `dropped` (slugs
    of cells that earlier calls ordered), `notes` (texts), `failures` (name, cell, seed, reason,
    lines). Empty where there is none.

    :raises InputError: for a file that holds something else.
    """
    if not (out / STUDY).is_file():
        return {}
    content = read_json(out / STUDY)
    if not isinstance(content, dict):
        raise InputError(f"{out / STUDY}: expected a table of what a study compares")
    return content


def write_study_file(out: Path, content: Mapping[str, Any]) -> None:
    """Replace `study.json` in one step.

    :raises StorageError: if it cannot be written.
    """
    write_json_atomically(out / STUDY, dict(content))


def move_aside(out: Path, directory: Path) -> Path:
    """Put a run and its log where no reader takes it for the study's; returns where it is now.

    :raises StorageError: if it cannot be moved.
    """
    place = out / REPLACED / directory.parent.name
    number = 1
    while (target := place / f"{directory.name}-{number}").exists():
        number += 1
    try:
        place.mkdir(parents=True, exist_ok=True)
        os.rename(directory, target)
        log = log_of(directory)
        if log.exists():
            os.rename(log, log_of(target))
    except OSError as error:
        raise cannot_write(target, error) from error
    return target


def log_of(directory: Path) -> Path:
    """Where what a run said stands: beside its directory."""
    return directory.with_name(f"{directory.name}.log")
