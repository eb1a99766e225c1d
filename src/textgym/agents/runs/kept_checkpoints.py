"""Which checkpoints a run keeps beside the last one: the newest few, and that of the best reward.

They are copies of `checkpoints/last`. Large files are hard links where the file system has them, so
a copy takes no room as long as the original is there, and little time.
"""

import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from textgym.directories import atomic_directory
from textgym.manifest import read_manifest
from textgym.run_files import BEST_REWARD, CHECKPOINTS, LAST

_STEP = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class CheckpointPlan:
    """When a training is saved between two updates, and how much of that is kept.

    :param seconds: wall-clock time between two checkpoints.
    :param tokens: completion tokens between two checkpoints, instead of time.
    :param keep: checkpoints that are kept. Two are in any case, the last and the one before; with
        more, the newest stand as `checkpoints/step-N` too.
    """

    seconds: float = 300.0
    tokens: int | None = None
    keep: int = 2

    def is_due(self, since: tuple[float, int] | None, step: int) -> bool:
        """Whether it is time for a checkpoint.

        :param since: clock (`time.monotonic`) and step of the last one; None: there is none.
        """
        if since is None:
            return True
        if self.tokens is not None:
            return step - since[1] >= self.tokens
        return time.monotonic() - since[0] >= self.seconds


def keep_newest(run: Path, step: int, count: int) -> None:
    """Keep a copy of the last checkpoint as `step-N`, and of these copies the newest few.

    :raises StorageError: if the copy cannot be written.
    """
    _copy(run / CHECKPOINTS / LAST, run / CHECKPOINTS / f"step-{step}")
    for place in _steps(run)[:-count]:
        shutil.rmtree(place, ignore_errors=True)


def keep_best(run: Path) -> None:
    """Keep a copy of the last checkpoint as that of the best reward.

    :raises StorageError: if the copy cannot be written.
    """
    _copy(run / CHECKPOINTS / LAST, run / CHECKPOINTS / BEST_REWARD)


def forget_later(run: Path, step: int) -> None:
    """Remove the copies behind a step from which the run is played anew."""
    for place in _steps(run):
        if _step_of(place) > step:
            shutil.rmtree(place, ignore_errors=True)


def _steps(run: Path) -> list[Path]:
    """The copies by step, oldest first."""
    places = (run / CHECKPOINTS).glob("step-*")
    return sorted((p for p in places if _STEP.fullmatch(p.name)), key=_step_of)


def _step_of(place: Path) -> int:
    match = _STEP.fullmatch(place.name)
    return int(match[1]) if match else -1


def _copy(source: Path, target: Path) -> None:
    with atomic_directory(target) as staging:
        for name in read_manifest(source):
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(source / name, staging / name)
            except OSError:  # a file system without links
                shutil.copyfile(source / name, staging / name)
