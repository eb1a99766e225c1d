"""A run directory: configuration, record, TensorBoard, checkpoints; one writer at a time."""

import contextlib
import gc
import json
import shutil
import warnings
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from textgym.agents.runs.fingerprints import Inputs, computed_with, differences, fingerprints
from textgym.agents.runs.json_lines import last_row
from textgym.agents.runs.settings import CONFIG, read_config
from textgym.errors import InputError, StorageError
from textgym.paths import absolute, expand
from textgym.storage import (
    LOCK,
    json_text,
    read_json,
    run_lock,
    write_json_atomically,
    write_text_atomically,
)

PROVENANCE = "provenance.json"
METRICS, SAMPLES = "metrics.jsonl", "samples.jsonl"
_RECORDS = frozenset({CONFIG, PROVENANCE, METRICS, SAMPLES, "tensorboard", ".lock"})
_NOBODYS = frozenset({".lock", ".gitkeep", ".gitignore", ".DS_Store", ".ipynb_checkpoints"})

# The runs that this process holds, as the lock files say it to other processes.
_open_runs: weakref.WeakValueDictionary[Path, "Run"] = weakref.WeakValueDictionary()


class Run:
    """A run directory with one writer: whoever has this object.

    The directory is locked until `close`, or until nobody uses the object any more.

    :param directory: absolute; it is made if there is none.
    :param is_resumed: whether the run was there before.
    :raises StorageError: if it cannot be written, or somebody else holds it.
    """

    def __init__(self, directory: Path, *, is_resumed: bool = False) -> None:
        self.directory, self.is_resumed = directory, is_resumed
        self.config: dict[str, Any] = {}
        self.is_busy = False  # a verb is at work: its run is not taken over
        self.step_offset = 0  # steps before SB3 began to count anew, at a second `learn`
        self.was_there = directory.exists()
        self._lock = contextlib.ExitStack()
        self._left_at: tuple[object, ...] | None = None
        self._take()

    @property
    def last(self) -> Path:
        """Where the checkpoint to go on from stands."""
        return self.directory / "checkpoints" / "last"

    @property
    def is_open(self) -> bool:
        """Whether this object may write."""
        return _open_runs.get(self.directory) is self

    def record(self, config: dict[str, Any], inputs: Inputs, start: Inputs | None = None) -> None:
        """Write `config.yaml`, and `provenance.json` with what it was made from.

        :param config: the settings (JSON values).
        :param inputs: paths that the run reads, again when it is resumed.
        :param start: paths that it reads at its start only.
        """
        config = json.loads(json_text(config))  # as it will be read
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        provenance = {
            "computed_with": computed_with(),
            "inputs": fingerprints(inputs),
            "start": fingerprints(start or {}),
            "config": config,
        }
        if self.is_resumed:
            before = read_provenance(self.directory)
            provenance["start"] = before.get("start", {})
        # In this order: a crash between the two leaves settings that nothing contradicts.
        (self.directory / PROVENANCE).unlink(missing_ok=True)
        write_text_atomically(self.directory / CONFIG, text)
        write_json_atomically(self.directory / PROVENANCE, provenance)
        self.config = config

    def last_step(self) -> int:
        """The step of the last row of `metrics.jsonl`; 0 without one."""
        row = last_row(self.directory / METRICS) or {}
        step = row.get("step")
        return int(step) if isinstance(step, int | float) else 0

    def hold(self) -> None:
        """Take the directory again after `close`, if nobody has written there since.

        :raises InputError: if somebody goes on with the run, or went on.
        """
        if self.is_open:
            return
        taken = InputError(
            f"{self.directory}: another agent goes on with this run; load it again with "
            f"load_agent({str(self.directory)!r}, out=...), or make one with another out"
        )
        try:
            self._take()
        except StorageError:
            raise taken from None
        if self._left_at != self._state():
            self.close()
            raise taken

    def close(self) -> None:
        """Let others write here."""
        if self.is_open:
            self._left_at = self._state()
            del _open_runs[self.directory]
            self._lock.close()

    def abandon(self) -> None:
        """Close, and leave nothing behind if this object began the run and nothing was saved."""
        if self.is_open and not self.is_resumed and not has_checkpoint(self.directory):
            _remove_records(self.directory)
            self.close()
            if not self.was_there:
                with contextlib.suppress(OSError):
                    self.directory.rmdir()
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Run":
        """A copied agent writes in the same run."""
        return self

    def _take(self) -> None:
        self._lock.enter_context(run_lock(self.directory))
        _open_runs[self.directory] = self

    def _state(self) -> tuple[object, ...]:
        names = (CONFIG, METRICS, "checkpoints/last/manifest.json")
        return tuple(_size_and_time(self.directory / name) for name in names)


def start_run(out: str | Path, *, free_name: bool = False) -> Run:
    """Begin a run in a directory that holds none.

    One that was killed before it saved anything is begun anew.

    :param free_name: where there is a run, take the first free one of `out-2`, `out-3`, …, and say
        so.
    :raises InputError: if `out` is a file, holds a run, or holds what is no run.
    :raises StorageError: if it is in use or cannot be written.
    """
    first = absolute(out)
    for directory in _names(first) if free_name else [first]:
        is_first = directory == first
        if free_name and (holds_run(directory) or not (is_first or _is_empty(directory))):
            continue
        _check_place(directory)
        _holder(directory)
        try:
            run = Run(directory)
        except StorageError:
            if free_name and (directory / LOCK).exists():
                continue
            raise
        if holds_run(directory):
            run.close()
            if free_name:
                continue
            raise InputError(
                f"{out}: holds a run already; choose another --out, or go on with --resume"
            )
        _remove_records(directory)
        if directory != first:
            print(f"{out}: holds a run already; this one is in {directory}")
        return run
    raise AssertionError("there is always a free name")


def resume_run(out: str | Path) -> Run:
    """Go on in a directory that holds a run.

    An agent of this process that holds it, and is not learning, must let it go.

    :raises InputError: if it holds none, or one that saved nothing.
    :raises StorageError: if it is in use or cannot be written.
    """
    directory = absolute(out)
    if not (directory / CONFIG).is_file():
        raise InputError(f"{out}: holds no run to resume; start it without --resume")
    holder = _holder(directory)
    if holder is not None and not holder.is_busy:
        holder.close()
    run = Run(directory, is_resumed=True)
    run.config = read_config(directory)
    if not has_checkpoint(directory):
        run.close()
        raise InputError(f"{out}: the run saved no checkpoint yet; start it again without --resume")
    return run


@contextlib.contextmanager
def open_run(
    out: str | Path,
    config: dict[str, Any],
    *,
    inputs: Inputs | None = None,
    start: Inputs | None = None,
    resume: bool = False,
    free_name: bool = False,
) -> Iterator[Run]:
    """Hold a run directory for a verb's work, with its configuration recorded.

    A run that fails before it has saved anything leaves nothing behind.

    :param config, inputs, start: as `Run.record` takes them.
    :param resume: go on in a directory that holds a run; otherwise that is refused.
    :param free_name: as `start_run`'s.
    :raises InputError: if there is a run already, or none to resume.
    :raises StorageError: if the directory is in use or cannot be written.
    """
    run = resume_run(out) if resume else start_run(out, free_name=free_name)
    run.is_busy = True
    try:
        run.record(config, inputs or {}, start)
        yield run
    except BaseException:
        run.abandon()
        raise
    finally:
        run.is_busy = False
        run.close()


@contextlib.contextmanager
def open_to_write(out: "str | Path | Run | None", *, resume: bool = False) -> Iterator[Run | None]:
    """The run of an agent that is built inside, which keeps it; None stays None.

    A run that was opened here is abandoned where building fails.

    :param out: a run that is held already, or a directory: the next free name if there is a run.
    :param resume: go on with the run in the directory, warning of what differs since.
    """
    if not isinstance(out, str | Path):
        if not isinstance(out, Run | None):
            raise InputError(f"out must be the path of a directory, got {out!r:.60}")
        yield out
        return
    if resume:
        for change in changes_since(out):
            warnings.warn(f"{out}: not as the run was: {change}", stacklevel=4)
    run = resume_run(out) if resume else start_run(out, free_name=True)
    try:
        yield run
    except BaseException:
        run.abandon()
        raise


def goes_on_with(out: object, checkpoint: str | Path) -> bool:
    """Whether `out` is the run that a checkpoint stands in."""
    if not isinstance(out, str | Path) or not (expand(out) / CONFIG).is_file():
        return False
    return expand(checkpoint).resolve().is_relative_to(expand(out).resolve())


def changes_since(out: str | Path) -> list[str]:
    """What differs from when the run in `out` was recorded, in words.

    :raises InputError: if its settings cannot be read.
    """
    directory = expand(out)
    config, before = json.loads(json_text(read_config(directory))), read_provenance(directory)
    if not before and (directory / PROVENANCE).exists():
        return [f"{PROVENANCE} is damaged, so nobody knows what it was"]
    return differences(before, config)


def read_provenance(directory: Path) -> dict[str, Any]:
    """The record of what a run was made from; empty where there is none that can be read."""
    try:
        content = read_json(directory / PROVENANCE)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def holds_run(directory: Path) -> bool:
    """Whether there is a run in a directory that must not be written over."""
    if not directory.is_dir():
        return False
    if (directory / CONFIG).exists():
        return has_checkpoint(directory)
    # Without settings, but with a record: no run of today's, but somebody's all the same.
    return any((directory / name).exists() for name in (METRICS, SAMPLES))


def has_checkpoint(directory: Path) -> bool:
    """Whether something was saved that somebody could go on from."""
    checkpoints = directory / "checkpoints"
    saved = list(checkpoints.iterdir()) if checkpoints.is_dir() else []
    for depth in ("*", "*/*", "*/*/*"):  # the demo's stand in folders of their own
        saved += [path.parent for path in directory.glob(f"{depth}/manifest.json")]
    return any(not _is_unfinished(path.name) for path in saved)


def _check_place(directory: Path) -> None:
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file; --out names a directory")
    if directory.is_dir() and not (_is_run(directory) or _is_empty(directory)):
        names = sorted(path.name for path in directory.iterdir() if path.name not in _NOBODYS)
        raise InputError(
            f"{directory}: holds {names[0]!r:.60} and no run; --out names a new directory, an "
            "empty one, or that of a run"
        )


def _is_run(directory: Path) -> bool:
    """Whether the settings in a directory are a run's, and not somebody's own."""
    if holds_run(directory) or (directory / PROVENANCE).exists():
        return True
    try:
        return isinstance(read_config(directory).get("verb"), str)
    except InputError:
        return False


def _is_empty(directory: Path) -> bool:
    """Whether nothing stands there that belongs to anybody."""
    if not directory.exists():
        return True
    return directory.is_dir() and {path.name for path in directory.iterdir()} <= _NOBODYS


def _names(first: Path) -> Iterator[Path]:
    yield first
    number = 2
    while True:
        yield first.with_name(f"{first.name}-{number}")
        number += 1


def _holder(directory: Path) -> Run | None:
    """The run of this process that holds a directory, unless nobody uses it any more."""
    if directory in _open_runs:
        gc.collect()  # agents and their environments refer to each other
    return _open_runs.get(directory)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _is_unfinished(name: str) -> bool:
    """Whether a crash left it half-written (one that was moved aside is whole)."""
    return name.startswith(".tmp-") and not name.startswith(".tmp-old-")


def _remove_records(directory: Path) -> None:
    """Remove what a run writes before its first checkpoint, and nothing else.

    Rows of a record stay under another name: somebody may have removed the checkpoints alone.
    """
    for name in (METRICS, SAMPLES):
        rows = directory / name
        if rows.is_file() and rows.stat().st_size:
            count = len(list(directory.glob(f"{name}.*")))
            rows.rename(directory / f"{name}.{count + 1}")
    for name in sorted(_RECORDS - {".lock"}):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory / "checkpoints", ignore_errors=True)
