"""One run: its directory, read by anybody and written by one; a study is a directory of runs."""

import contextlib
import json
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from textgym.agents.runs.fingerprints import Inputs, computed_with, fingerprints
from textgym.agents.runs.occupied import has_checkpoint, remove_records
from textgym.agents.runs.settings import read_config
from textgym.errors import InputError, StorageError
from textgym.json_lines import append_line, last_row, read_metrics, read_rows
from textgym.manifest import MANIFEST
from textgym.paths import absolute
from textgym.run_files import CHECKPOINTS, CONFIG, LAST, METRICS, PROVENANCE, SAMPLES, TENSORBOARD
from textgym.storage import (
    TEMPORARY,
    json_text,
    read_json,
    run_lock,
    write_json_atomically,
    write_text_atomically,
)

# The runs that this process writes, as the lock files say it to other processes. An agent that
# takes a run over has only its path, and must find the agent that holds it.
_open_runs: weakref.WeakValueDictionary[Path, "Run"] = weakref.WeakValueDictionary()


class Run:
    """A run directory: what it holds, and for one writer at a time the right to write there.

    Reading takes no lock, so a run may be looked at while it is trained. `textgym.open_run` opens
    one for reading; the verbs and `make_agent(out=...)` hold theirs until `close`, or until nobody
    uses the object any more.

    :param directory: absolute.
    :param is_resumed: whether the run was there before.
    """

    def __init__(self, directory: Path, *, is_resumed: bool = False) -> None:
        self.directory, self.is_resumed = directory, is_resumed
        self.config: dict[str, Any] = {}
        """The settings that the run was made with, defaults included (JSON values)."""
        self.is_busy = False  # a verb is at work: its run is not taken over
        self.step_offset = 0  # steps before SB3 began to count anew, at a second `learn`
        self.was_there = directory.exists()
        self._lock = contextlib.ExitStack()
        self._left_at: tuple[object, ...] | None = None

    def __repr__(self) -> str:
        verb = self.config.get("verb", "no settings")
        return f"Run({str(self.directory)!r}, {verb})"

    # ---- what it holds -----------------------------------------------------

    def metrics(self) -> list[dict[str, float]]:
        """The rows of the record, each with its `step`; docs/metrics.md explains every figure.

        Figures that are not finite are left out, and lines that a crash tore, with a warning. Empty
        where nothing has been recorded yet.
        """
        return read_metrics(self.metrics_path) if self.metrics_path.is_file() else []

    def samples(self) -> list[dict[str, Any]]:
        """The continuations over time: rows of `step`, `prompt` and `completion`."""
        return read_rows(self.samples_path) if self.samples_path.is_file() else []

    @property
    def prompts(self) -> list[str]:
        """The prompts whose continuations `samples()` shows, in order."""
        return list(dict.fromkeys(row["prompt"] for row in self.samples() if "prompt" in row))

    @property
    def checkpoints(self) -> dict[str, Path]:
        """The saved checkpoints by name: "last" (to go on from), "best", "previous" and others.

        `load_agent`, `CausalLM.from_pretrained` and `reward=` take their paths, and the run's own.
        """
        places = sorted((self.directory / CHECKPOINTS).glob(f"*/{MANIFEST}"))
        folders = [path.parent for path in places if not path.parent.name.startswith(TEMPORARY)]
        return {folder.name: folder for folder in folders}

    def children(self) -> list["Run"]:
        """The runs inside this directory, sorted by path: those of a study, or a demo's parts.

        Directories between are passed through; the runs of a child are its own children.
        """
        return [_read(path) for path in _runs_below(self.directory)]

    @property
    def last(self) -> Path:
        """Where the checkpoint to go on from stands."""
        return self.checkpoint(LAST)

    def checkpoint(self, name: str) -> Path:
        """Where a checkpoint stands, or will stand."""
        return self.directory / CHECKPOINTS / name

    @property
    def metrics_path(self) -> Path:
        """Where the record stands."""
        return self.directory / METRICS

    @property
    def samples_path(self) -> Path:
        """Where the continuations over time stand."""
        return self.directory / SAMPLES

    @property
    def tensorboard_path(self) -> Path:
        """Where TensorBoard's event files stand."""
        return self.directory / TENSORBOARD

    def last_step(self) -> int:
        """The step of the last row of the record; 0 without one."""
        row = last_row(self.metrics_path) or {}
        step = row.get("step")
        return int(step) if isinstance(step, int | float) else 0

    # ---- writing -----------------------------------------------------------

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
            provenance["start"] = read_provenance(self.directory).get("start", {})
        # In this order: a crash between the two leaves settings that nothing contradicts.
        (self.directory / PROVENANCE).unlink(missing_ok=True)
        write_text_atomically(self.directory / CONFIG, text)
        write_json_atomically(self.directory / PROVENANCE, provenance)
        self.config = config

    def add_inputs(self, inputs: Inputs) -> None:
        """Add paths to those that the run reads, once it is recorded."""
        provenance = read_provenance(self.directory)
        provenance["inputs"] = {**provenance.get("inputs", {}), **fingerprints(inputs)}
        write_json_atomically(self.directory / PROVENANCE, provenance)

    def add_metrics(self, row: Mapping[str, Any]) -> None:
        """Append a row to the record.

        :param row: JSON values; a number that is not finite becomes null.
        :raises StorageError: if it cannot be written.
        """
        append_line(self.metrics_path, json_text(dict(row)))

    def add_sample(self, step: int, prompt: str, completion: str) -> None:
        """Append a continuation, at the step that its weights have learned from.

        :raises StorageError: if it cannot be written.
        """
        row = {"step": step, "prompt": prompt, "completion": completion}
        append_line(self.samples_path, json_text(row))

    def take(self) -> "Run":
        """Lock the directory, which is made if there is none; returns the run.

        :raises StorageError: if it cannot be written, or somebody else holds it.
        """
        self._lock.enter_context(run_lock(self.directory))
        _open_runs[self.directory] = self
        return self

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
            self.take()
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
            remove_records(self.directory)
            self.close()
            if not self.was_there:
                with contextlib.suppress(OSError):
                    self.directory.rmdir()
        self.close()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Run":
        """A copied agent writes in the same run."""
        return self

    def _state(self) -> tuple[object, ...]:
        files = self.directory / CONFIG, self.metrics_path, self.last / MANIFEST
        return tuple(map(_size_and_time, files))


def open_run(directory: str | Path) -> Run:
    """A run directory, to read: settings, record, samples, checkpoints, and the runs inside it.

    :param directory: of a run, or of many: a study, whose `children()` are its runs.
    :raises InputError: if it holds neither, or settings that cannot be read.
    """
    path = absolute(directory)
    if (path / CONFIG).is_file():
        return _read(path)
    if not path.is_dir():
        raise InputError(f"{directory}: no such directory; expected that of a run")
    if next(_runs_below(path), None) is None:
        raise InputError(f"{directory}: holds no {CONFIG}, so it is no run, and no run inside")
    return Run(path)


def held_by_this_process(directory: Path) -> Run | None:
    """The run object of this process that writes in a directory, if there is one."""
    return _open_runs.get(directory)


def read_provenance(directory: Path) -> dict[str, Any]:
    """The record of what a run was made from; empty where there is none that can be read."""
    try:
        content = read_json(directory / PROVENANCE)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _read(directory: Path) -> Run:
    run = Run(directory, is_resumed=True)
    run.config = read_config(directory)
    return run


def _runs_below(directory: Path) -> Iterator[Path]:
    """The nearest directories inside that have settings of a run."""
    for path in sorted(directory.iterdir()):
        is_of_a_run = path.name in (CHECKPOINTS, TENSORBOARD) or path.name.startswith(".")
        if is_of_a_run or path.is_symlink() or not path.is_dir():
            continue
        if (path / CONFIG).is_file():
            yield path
        else:
            yield from _runs_below(path)


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
