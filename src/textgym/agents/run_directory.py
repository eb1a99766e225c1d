"""A run directory: configuration, record, TensorBoard, checkpoints; one writer at a time."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from textgym.constraints import Constraint
from textgym.errors import InputError, StorageError
from textgym.storage import run_lock, write_text_atomically

CONFIG = "config.yaml"
_RECORDS = frozenset({CONFIG, "metrics.jsonl", "samples.jsonl", "tensorboard", ".lock"})


@contextlib.contextmanager
def open_run(
    directory: str | Path, config: dict[str, Any], *, resume: bool = False
) -> Iterator[Path]:
    """Hold a run directory for writing, with its configuration in `config.yaml`.

    A run that fails before it has saved anything leaves nothing behind, and one that was killed so
    early may be started again.

    :param config: the resolved configuration (JSON values).
    :param resume: go on in a directory that holds a run; otherwise that is refused.
    :raises InputError: if there is a run already, or none to resume.
    :raises StorageError: if the directory is in use or cannot be written.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file; --out names a directory")
    if resume and not (directory / CONFIG).is_file():
        raise InputError(f"{directory}: holds no run to resume; start it without --resume")
    was_there = directory.exists()
    with run_lock(directory):
        if resume and _holds_only_records(directory):
            raise InputError(
                f"{directory}: the run saved no checkpoint yet; start it again without --resume"
            )
        if (directory / CONFIG).is_file() and not resume:
            if not _holds_only_records(directory):
                raise InputError(
                    f"{directory}: holds a run already; choose another --out, or go on with "
                    "--resume"
                )
            _remove_records(directory, keep_directory=True)
        try:
            text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
            write_text_atomically(directory / CONFIG, text)
            yield directory
        except BaseException:
            if not resume and _holds_only_records(directory):
                _remove_records(directory, keep_directory=was_there)
            raise


def is_plain(value: Any) -> bool:
    """Whether JSON and YAML hold a value as it is."""
    if isinstance(value, list):
        return all(map(is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


def plain(value: Any) -> Any:
    """A path as text, a tuple as a list, a constraint as its fields, and so on inside.

    Everything else stays as it is.
    """
    if isinstance(value, Constraint):
        return dict(vars(value))
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value


def _holds_only_records(directory: Path) -> bool:
    """Whether nothing was saved that somebody could go on from."""
    names = {path.name for path in directory.iterdir()}
    checkpoints = directory / "checkpoints"
    if checkpoints.is_dir():
        saved = [c for c in checkpoints.iterdir() if not _is_unfinished(c.name)]
        names -= set() if saved else {"checkpoints"}
    return names <= _RECORDS


def _is_unfinished(name: str) -> bool:
    """Whether a crash left it half-written (one that was moved aside is whole)."""
    return name.startswith(".tmp-") and not name.startswith(".tmp-old-")


def _remove_records(directory: Path, *, keep_directory: bool) -> None:
    for name in sorted(_RECORDS - {".lock"}):
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
    if not keep_directory:
        (directory / ".lock").unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            directory.rmdir()


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
