"""Runs of which there is nothing but event files, as Stable-Baselines3's `tensorboard_log` leaves.

Their figures stand beside ours; texts and held-out scores they have none.
"""

import logging
import math
from collections.abc import Mapping
from pathlib import Path

from textgym.agents.comparison.study import Cell, StudyRun


def read_foreign(
    directories: Mapping[str, Path],
) -> tuple[list[Cell], list[StudyRun], list[str]]:
    """A cell and a run for each directory of event files, and what a reader must know of them.

    :param directories: by name.
    """
    cells, runs, notes = [], [], []
    for name, directory in sorted(directories.items()):
        figures = last_scalars(directory)
        step = figures.pop("step", 0.0)
        if not figures:
            notes.append(f"{name}: event files without a figure; left out")
            continue
        cells.append(Cell(name, {"agent": name}, ""))
        runs.append(
            StudyRun(
                directory,
                name,
                name,
                seed=0,
                config={},
                record=None,
                figures=figures,
                timesteps=round(step),
                seconds=None,
            )
        )
        notes.append(
            f"{name}: event files alone, so it has figures, but no texts and no held-out scores"
        )
    return cells, runs, notes


def last_scalars(directory: Path) -> dict[str, float]:
    """The last value of every scalar in a directory's event files, and the last `step`.

    A file that is torn is read up to there.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 1})
    with _quiet():
        accumulator.Reload()
    figures: dict[str, float] = {}
    last = 0
    for tag in accumulator.Tags()["scalars"]:
        event = accumulator.Scalars(tag)[-1]
        if math.isfinite(event.value):
            figures[tag], last = float(event.value), max(last, event.step)
    return {**figures, "step": float(last)} if figures else {}


class _quiet:
    """TensorBoard's reader says on standard error what it makes of a torn file; nobody asked."""

    def __enter__(self) -> None:
        self._logger = logging.getLogger("tensorboard")
        self._level = self._logger.level
        self._logger.setLevel(logging.CRITICAL)

    def __exit__(self, *error: object) -> None:
        self._logger.setLevel(self._level)
