"""Run directories as they are found: below any paths, moved, merged, torn, or still going on.

Nothing is written, and nothing depends on where a run was made. A run's name is its path below what
all the paths that were given have in common.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from textgym.agents.runs.fingerprints import NOTHING
from textgym.agents.runs.held_out import HeldOutRecord, read_held_out
from textgym.agents.runs.run import read_provenance
from textgym.agents.runs.settings import read_config
from textgym.errors import InputError
from textgym.json_lines import last_row, read_rows
from textgym.paths import absolute
from textgym.run_files import CHECKPOINTS, CONFIG, METRICS, SAMPLES, TENSORBOARD
from textgym.storage import is_in_use

EVENT_FILES = "events.out.tfevents.*"


@dataclass(frozen=True)
class FoundRun:
    """What a directory of a training run holds.

    :param name: its path, relative to what all given paths have in common.
    :param inputs: SHA-256 of what the settings name, `{setting: digests}`.
    :param record: None for a run that made no held-out evaluations.
    :param samples: rows of `samples.jsonl`.
    :param figures: the last row of `metrics.jsonl`, by tag; `step` is how far it got.
    :param is_going_on: whether another process writes there now.
    :param torn: what could not be read, in words.
    """

    directory: Path
    name: str
    config: Mapping[str, Any]
    inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    record: HeldOutRecord | None = None
    samples: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    is_going_on: bool = False
    torn: Sequence[str] = ()

    @property
    def seed(self) -> int:
        """Its seed; 0 where the settings name none."""
        seed = self.config.get("seed")
        return seed if isinstance(seed, int) else 0

    @property
    def timesteps(self) -> int:
        """Completion tokens that were ordered; 0 where nobody knows."""
        timesteps = self.config.get("timesteps")
        return int(timesteps) if isinstance(timesteps, int | float) else 0

    @property
    def step(self) -> int:
        """How far it got, in completion tokens."""
        return int(self.figures.get("step", 0))

    @property
    def is_whole(self) -> bool:
        """Whether its held-out evaluations are there, first and last among them; without any,
        whether it is at its end."""
        if self.record is None:
            return self.step >= self.timesteps and not self.is_going_on
        steps = self.record.steps
        if not steps or self.record.lost:
            return False
        if self.timesteps:
            return steps[-1] >= self.timesteps
        return len(steps) >= self.record.settings.evaluations


@dataclass(frozen=True)
class Found:
    """What stands below some paths.

    :param root: what all paths have in common; names are relative to it.
    :param runs: of `textgym train`, by name.
    :param foreign: directories of event files that Stable-Baselines3 alone wrote, by name.
    :param unread: why a directory was passed over, in words, by name.
    """

    root: Path
    runs: Sequence[FoundRun]
    foreign: Mapping[str, Path] = field(default_factory=dict)
    unread: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed_over(self) -> list[str]:
        """Each directory that was passed over, with the reason, in a line."""
        return [f"{name}: {why}" for name, why in self.unread.items()]


def find_runs(paths: Sequence[str | Path]) -> Found:
    """Read all runs below some paths; links are followed, and no run counts twice.

    :raises InputError: for a path that is no directory, or that has no run at or below it.
    """
    if not paths:
        raise InputError("expected the directory of a run or of many, got none")
    places = [absolute(path) for path in paths]
    found: dict[Path, tuple[Path, dict[str, Any] | str | None]] = {}
    for given, place in zip(paths, places, strict=True):
        if not place.is_dir():
            raise InputError(f"{given}: no such directory; expected that of a run or of many")
        below = list(_below(place, set()))
        if not below:
            raise InputError(f"{given}: holds no run; expected the directory of a run or of many")
        for directory, what in below:
            found.setdefault(directory.resolve(), (directory, what))
    root = _root(places)
    runs: list[FoundRun] = []
    foreign: dict[str, Path] = {}
    unread: dict[str, str] = {}
    for directory, what in found.values():
        name = os.path.relpath(directory, root)
        if what is None:
            foreign[name] = directory
        elif isinstance(what, str):
            unread[name] = what
        else:
            try:
                runs.append(_read(directory, name, what))
            except InputError as error:
                unread[name] = str(error).replace(f"{directory}/", "")
    found_here = Found(root, sorted(runs, key=lambda run: run.name), foreign, unread)
    if not runs and not foreign:
        raise InputError("; ".join(found_here.passed_over))
    return found_here


def read_pair(one: str | Path, other: str | Path) -> tuple[FoundRun, FoundRun]:
    """Two runs, with names that tell them apart.

    :raises InputError: for what is no directory of a training run, and for one run twice.
    """
    places = [absolute(path) for path in (one, other)]
    for given, place in zip((one, other), places, strict=True):
        if not (place / CONFIG).is_file():
            raise InputError(f"{given}: holds no {CONFIG}; expected the directory of one run")
    if places[0].resolve() == places[1].resolve():
        raise InputError(f"{one} and {other} are the same run")
    runs = []
    for given, place in zip((one, other), places, strict=True):
        config = read_config(place)
        if config.get("verb") != "train":
            raise InputError(f"{given}: {_no_training(config)}")
        runs.append(_read(place, os.path.relpath(place, _root(places)), config))
    return runs[0], runs[1]


def is_run(path: str | Path) -> bool:
    """Whether a directory is that of a single training run."""
    place = absolute(path)
    try:
        return (place / CONFIG).is_file() and read_config(place).get("verb") == "train"
    except InputError:
        return False


def _root(places: Sequence[Path]) -> Path:
    if len(places) > 1:
        return Path(os.path.commonpath([place.parent for place in places]))
    return places[0].parent if is_run(places[0]) else places[0]


def _below(
    place: Path, above: frozenset[Path] | set[Path]
) -> Iterator[tuple[Path, dict[str, Any] | str | None]]:
    """What stands at and below a directory.

    Each with its settings for a training run, why it is none, or None for event files that stand
    outside of any run.

    :param above: the directories that lead here: a link may lead back.
    """
    real = place.resolve()
    if real in above:
        return
    what: dict[str, Any] | str | None = None
    if (place / CONFIG).is_file():
        try:
            what = read_config(place)
        except InputError as error:
            what = str(error).removeprefix(f"{place}/")
    if isinstance(what, dict) and what.get("verb") == "train":
        yield place, what
        return
    if any(place.glob(EVENT_FILES)):
        yield place, None
    inside: list[tuple[Path, dict[str, Any] | str | None]] = []
    for path in sorted(place.iterdir()):
        is_of_a_run = path.name in (CHECKPOINTS, TENSORBOARD) or path.name.startswith(".")
        if not is_of_a_run and path.is_dir():
            inside += _below(path, {*above, real})
    yield from inside
    if what is not None and not inside:
        yield place, what if isinstance(what, str) else _no_training(what)


def _no_training(config: Mapping[str, Any]) -> str:
    return f"expected a run of train, found one of {config.get('verb')!s:.40}"


def _read(directory: Path, name: str, config: Mapping[str, Any]) -> FoundRun:
    """A run with all that it recorded; what is torn is said, not raised."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        record = read_held_out(directory)
        samples = read_rows(directory / SAMPLES) if (directory / SAMPLES).is_file() else []
        figures = last_row(directory / METRICS) or {}
    return FoundRun(
        directory,
        name,
        config,
        inputs=_digests(directory),
        record=record,
        samples=[row for row in samples if _is_sample(row)],
        figures={k: float(v) for k, v in figures.items() if isinstance(v, int | float)},
        is_going_on=is_in_use(directory),
        torn=[str(w.message).replace(f"{directory}/", f"{name}: ") for w in caught],
    )


def _is_sample(row: Mapping[str, Any]) -> bool:
    texts = isinstance(row.get("prompt"), str) and isinstance(row.get("completion"), str)
    return texts and isinstance(row.get("step"), int)


def _digests(directory: Path) -> dict[str, list[str]]:
    """SHA-256 of what each setting names, as they were when the run began."""
    provenance = read_provenance(directory)
    found = {}
    for part in ("start", "inputs"):
        for name, digests in dict(provenance.get(part) or {}).items():
            values = list(digests.values()) if isinstance(digests, dict) else []
            if values and NOTHING not in values:
                found[name] = values
    return found
