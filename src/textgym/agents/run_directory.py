"""A run directory: configuration, record, TensorBoard, checkpoints; one writer at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from textgym.errors import InputError, StorageError
from textgym.storage import run_lock, write_text_atomically


@contextlib.contextmanager
def open_run(
    directory: str | Path, config: dict[str, Any], *, resume: bool = False
) -> Iterator[Path]:
    """Hold a run directory for writing, with its configuration in `config.yaml`.

    :param config: the resolved configuration (JSON values).
    :param resume: go on in a directory that holds a run; otherwise that is refused.
    :raises InputError: if there is a run already, or none to resume.
    :raises StorageError: if the directory is in use or cannot be written.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file; --out names a directory")
    with run_lock(directory):
        has_run = (directory / "config.yaml").is_file()
        if has_run and not resume:
            raise InputError(
                f"{directory}: holds a run already; choose another --out, or go on with --resume"
            )
        if resume and not has_run:
            raise InputError(f"{directory}: holds no run to resume")
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        write_text_atomically(directory / "config.yaml", text)
        yield directory


def append_line(path: Path, text: str) -> None:
    """Append a line to a file of records.

    :raises StorageError: if it cannot be written.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def read_config(directory: str | Path) -> dict[str, Any]:
    """The configuration of a run.

    :raises InputError: if there is none that can be read.
    """
    path = Path(directory) / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a table of settings")
    return content
