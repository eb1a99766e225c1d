"""Opening run directories to write: begun, gone on with, or the next free name."""

import contextlib
import gc
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textgym.agents.runs.fingerprints import Inputs, differences
from textgym.agents.runs.occupied import (
    check_place,
    has_checkpoint,
    holds_run,
    is_empty,
    remove_records,
)
from textgym.agents.runs.run import Run, held_by_this_process, read_provenance
from textgym.agents.runs.settings import read_config
from textgym.errors import InputError, StorageError
from textgym.paths import absolute, expand
from textgym.run_files import CONFIG, PROVENANCE
from textgym.storage import LOCK, json_text


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
        if free_name and (holds_run(directory) or not (is_first or is_empty(directory))):
            continue
        check_place(directory)
        _holder(directory)
        try:
            run = Run(directory).take()
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
        remove_records(directory)
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
    run = Run(directory, is_resumed=True).take()
    run.config = read_config(directory)
    if not has_checkpoint(directory):
        run.close()
        raise InputError(f"{out}: the run saved no checkpoint yet; start it again without --resume")
    return run


@contextlib.contextmanager
def run_for_verb(
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


def _names(first: Path) -> Iterator[Path]:
    yield first
    number = 2
    while True:
        yield first.with_name(f"{first.name}-{number}")
        number += 1


def _holder(directory: Path) -> Run | None:
    """The run of this process that holds a directory, unless nobody uses it any more."""
    if held_by_this_process(directory) is not None:
        gc.collect()  # agents and their environments refer to each other
    return held_by_this_process(directory)
