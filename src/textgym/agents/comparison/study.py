"""A study: runs of one environment on the same held-out prompts, by cell and seed.

A cell is what the runs of one comparison differ in: policy, agent with its keywords, reward model.
Everything that reports on a study (verdict, TensorBoard, page) reads this object and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.agents.runs.held_out import HeldOutRecord, Role

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """What is compared with other cells; its runs differ in their seed alone.

    :param label: short and different for every cell, such as "ppo,kl_coef=0.1 · crowd"; only what
        the cells of the study differ in.
    :param settings: by name, what the cells differ in (`policy`, `agent`, `reward`, keywords).
    :param reward: the name of the reward model it trains on, as in `HeldOutText.scores`.
    """

    label: str
    settings: Mapping[str, Any]
    reward: str


@dataclass(frozen=True)
class StudyRun:
    """One run of a study.

    :param directory: of the run.
    :param name: the directory, relative to the study's.
    :param cell: label of its cell.
    :param config: its settings as they were used.
    :param record: its held-out evaluations; None for a run that made none.
    :param samples: rows of `samples.jsonl` (`step`, `prompt`, `completion`).
    :param figures: the last value of every figure of `metrics.jsonl`, by tag.
    :param timesteps: completion tokens in all, as they were ordered.
    :param seconds: wall-clock time of its training; None where nobody knows.
    """

    directory: Path
    name: str
    cell: str
    seed: int
    config: Mapping[str, Any]
    record: HeldOutRecord | None
    samples: Sequence[Mapping[str, Any]] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    timesteps: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Failure:
    """A run of a study that ended without its last evaluation, or was never begun.

    :param reason: one line: how it ended.
    :param lines: what it said last.
    """

    name: str
    cell: str
    seed: int
    reason: str
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Study:
    """Runs side by side.

    :param title: what is compared, in a line.
    :param prompts: the held-out prompts that all runs continue; rows with the key `prompt`.
    :param judges: role of every judge by name; one that any cell trains on is a "reward".
    :param cells: in the order of the command line, or of their labels.
    :param runs: the whole ones, of all cells.
    :param failures: runs that are missing or broke off; the report names them.
    :param notes: what a reader must know: cells that were run anew, runs left out, few seeds.
    """

    title: str
    env: str
    prompts: Sequence[Mapping[str, Any]]
    judges: Mapping[str, Role]
    cells: Sequence[Cell]
    runs: Sequence[StudyRun]
    failures: Sequence[Failure] = ()
    notes: Sequence[str] = ()

    def runs_of(self, cell: str) -> list[StudyRun]:
        """The runs of a cell, by seed."""
        return sorted((run for run in self.runs if run.cell == cell), key=lambda run: run.seed)

    def gold(self) -> list[str]:
        """The independent judges, in order."""
        return [name for name, role in self.judges.items() if role == "gold"]


def scores_of(run: StudyRun, judge: str) -> Floats:
    """`[evaluation, prompt]`, NaN where the judge says nothing; the first row is the start's."""
    assert run.record is not None
    rows = [run.record.texts[step] for step in run.record.steps]
    found = [[text.scores.get(judge) for text in texts] for texts in rows]
    return np.array(found, dtype=np.float64)


def kl_of(run: StudyRun) -> Floats:
    """`[evaluation, prompt]`, nats per text to the start."""
    assert run.record is not None
    return np.array([[t.kl for t in run.record.texts[s]] for s in run.record.steps])
