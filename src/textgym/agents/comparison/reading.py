"""A study read from the directories of its runs, wherever they are now.

What `textgym compare` wrote of its cells is used where it speaks of all runs that are found; the
cells of others are derived from what the settings of their runs differ in.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textgym.agents.comparison.comparable import check_comparable, judges_of
from textgym.agents.comparison.derived_cells import derive_cells, reward_of
from textgym.agents.comparison.foreign_runs import read_foreign
from textgym.agents.comparison.found_runs import Found, FoundRun, find_runs
from textgym.agents.comparison.study import Cell, Study, StudyRun
from textgym.agents.comparison.study_notes import failures_of, notes_of, without_dropped
from textgym.agents.comparison.written_study import WrittenStudy, read_written, slug_of_run
from textgym.errors import InputError


def read_study(paths: Sequence[str | Path] | str | Path) -> Study:
    """The study of all runs below some paths: studies, runs made one at a time, both together.

    Runs without their last held-out evaluation are failures. Runs that made none at all are
    compared by their sample texts where all are such, and left out where not.

    :raises InputError: naming the runs, where they cannot be compared: other environments, prompts
        or budgets, two of one cell and seed, a gold judge that one is trained on, none that is
        whole; and for a path without a run.
    """
    found = find_runs([paths] if isinstance(paths, str | Path) else list(paths))
    if not found.runs:
        return _only_foreign(found)
    written, told = _written(found.root)
    if written is not None:
        found, dropped = without_dropped(found, written)
        told += dropped
    if written is not None and not all(slug_of_run(r.name) in written.cells for r in found.runs):
        written = None  # merged with others, or moved
    cells, labels = derive_cells(found.runs) if written is None else _cells_of(written, found.runs)
    check_comparable(found.runs, labels)
    recorded = [run for run in found.runs if run.record is not None]
    runs = [run for run in recorded or found.runs if run.is_whole or not recorded]
    failures = failures_of(recorded, labels, found, written)
    if not runs:
        how = "; ".join(f"{failure.name} {failure.reason}" for failure in failures)
        raise InputError(f"no run is whole yet: {how}")
    notes = [*(written.notes if written else ()), *told, *notes_of(found, runs)]
    foreign_cells, foreign_runs, foreign_notes = read_foreign(found.foreign)
    record = runs[0].record
    return Study(
        title=_title(cells),
        env=str(runs[0].config.get("env")),
        prompts=_sample_prompts(runs) if record is None else record.prompts,
        judges=judges_of(recorded),
        cells=[*cells, *foreign_cells],
        runs=[*(_study_run(run, labels[run.name]) for run in runs), *foreign_runs],
        failures=failures,
        notes=[*notes, *foreign_notes],
    )


def _written(root: Path) -> tuple[WrittenStudy | None, list[str]]:
    """What `textgym compare` wrote, or a note where nobody can read it."""
    try:
        return read_written(root), []
    except InputError as error:
        what = str(error).replace(f"{root}/", "")
        return None, [f"{what}; the cells are what the settings of the runs differ in"]


def _cells_of(written: WrittenStudy, runs: Sequence[FoundRun]) -> tuple[list[Cell], dict[str, str]]:
    """Cells as they were written, and the label of every run by its name."""
    rewards = {slug_of_run(run.name): reward_of(run) for run in runs if run.record is not None}
    cells = [
        replace(cell, reward=rewards.get(slug, cell.reward)) for slug, cell in written.cells.items()
    ]
    return cells, {run.name: written.cells[slug_of_run(run.name)].label for run in runs}


def _title(cells: Sequence[Cell]) -> str:
    """What is compared, in a line."""
    words = {"policy": "policies", "agent": "agents", "reward": "reward models"}
    keys = dict.fromkeys(key for cell in cells for key in cell.settings)
    different = [key for key in keys if len({str(c.settings.get(key)) for c in cells}) > 1]
    names = [words.get(key, key) for key in different]
    if not names:
        return "one cell"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _study_run(run: FoundRun, cell: str) -> StudyRun:
    figures = {tag: value for tag, value in run.figures.items() if tag != "step"}
    return StudyRun(
        run.directory,
        run.name,
        cell,
        run.seed,
        config=run.config,
        record=run.record,
        samples=run.samples,
        figures=figures,
        timesteps=run.timesteps,
        seconds=figures.get("time/time_elapsed"),
    )


def _sample_prompts(runs: Iterable[FoundRun]) -> list[dict[str, Any]]:
    """The prompts of all sample texts, in order."""
    prompts = dict.fromkeys(str(row["prompt"]) for run in runs for row in run.samples)
    return [{"prompt": prompt} for prompt in prompts]


def _only_foreign(found: Found) -> Study:
    cells, runs, notes = read_foreign(found.foreign)
    if not runs:
        raise InputError("; ".join([*found.passed_over, *notes]))
    return Study("event files", "", [], {}, cells, runs, notes=[*found.passed_over, *notes])
