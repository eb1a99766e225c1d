"""The runs of a comparison in its directory: what is there, what is run, and what is noted."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from textgym.agents.comparison.cells import PlannedCell, command_words
from textgym.agents.comparison.guard_alarms import kinds_of
from textgym.agents.comparison.live_table import Watch, live_table, plain_lines
from textgym.agents.comparison.schedule import Job, run_jobs, wait_until_free
from textgym.agents.comparison.standing import Standing, standing_of
from textgym.agents.comparison.study_files import (
    log_of,
    move_aside,
    write_study_file,
    write_study_files,
)
from textgym.agents.comparison.written_study import read_written
from textgym.errors import InputError
from textgym.json_lines import last_row
from textgym.paths import absolute
from textgym.planning.costs import check_room
from textgym.planning.plan import Plan
from textgym.run_files import CELLS, METRICS

WAIT_SECONDS = 60.0  # for runs of a comparison that was killed: they save first


class StudyRuns:
    """The runs of a plan in a directory that is held, and what `study.json` says of them."""

    def __init__(self, plan: Plan, place: Path, report: Callable[[str], None]) -> None:
        self.plan, self.place, self.report = plan, place, report
        self.notes: list[str] = []
        self.dropped: list[str] = []
        self.jobs: list[Job] = []
        try:
            before = read_written(place)
        except InputError as error:
            before = None
            self.notes.append(f"{error}; what it said of earlier runs is lost")
        if before is not None:
            self.notes += before.notes
            now = {cell.slug for cell in plan.cells}
            slugs = dict.fromkeys([*before.dropped, *before.cells])
            self.dropped = [s for s in slugs if s not in now and (place / CELLS / s).is_dir()]

    def begin(self, config: Mapping[str, Any]) -> None:
        """Look at what is there, and write what is compared.

        :raises StorageError: if it cannot be written, a run is still going on, or there is no room.
        """
        plan = self.plan
        runs = [(cell, seed) for seed in plan.seeds for cell in plan.cells]
        directories = [absolute(plan.directory(cell, seed)) for cell, seed in runs]
        wait_until_free(directories, seconds=WAIT_SECONDS, say=self.report)
        found = standings(plan)
        check_room(plan, found, self.place)
        write_study_files(self.place, config, plan.prompts)
        for cell, seed in runs:
            standing = found[cell.slug, seed]
            self._note_versions(cell, seed, standing)
            self.jobs.append(self._job(cell, seed, standing))
        self._write()

    def run(self, at_a_time: int, *, show_table: bool) -> None:
        """Run what is not there yet.

        :raises KeyboardInterrupt: after an interrupt, once everything has stopped.
        """
        console = Console(highlight=False)
        shown: contextlib.AbstractContextManager[Watch]
        if show_table and console.is_terminal:
            shown = live_table(at_a_time, console)
        else:
            shown = contextlib.nullcontext(plain_lines(at_a_time, self.report))
        failed: set[str] = set()
        try:
            with shown as watch:

                def look(jobs: Sequence[Job]) -> None:
                    watch(jobs)
                    now = {job.name for job in jobs if job.state == "failed"}
                    if now != failed:
                        failed.update(now)
                        self._write()

                run_jobs(self.jobs, at_a_time=at_a_time, watch=look)
        finally:
            self._write()

    def _job(self, cell: PlannedCell, seed: int, standing: Standing) -> Job:
        directory = absolute(self.plan.directory(cell, seed))

        def command() -> list[str]:
            if standing.state == "changed":
                moved = move_aside(self.place, directory)
                reasons = "; ".join(standing.reasons)
                self.notes.append(
                    f"{cell.label}, seed {seed}: run anew, since {reasons} (the run before is in "
                    f"{moved.relative_to(self.place)})"
                )
                self._write()
            return run_command(self.plan, cell, seed, resume=standing.state == "cut short")

        return Job(
            name=f"{cell.label}, seed {seed}",
            cell=cell.label,
            seed=seed,
            command=command,
            log=log_of(directory),
            tokens_done=lambda: tokens_recorded(directory),
            timesteps=self.plan.timesteps,
            state="kept" if standing.state == "whole" else "waiting",
            find_alarms=lambda: kinds_of(directory),
            alarms=kinds_of(directory) if standing.state == "whole" else (),
        )

    def _note_versions(self, cell: PlannedCell, seed: int, standing: Standing) -> None:
        for note in standing.notes:
            text = f"{cell.label}, seed {seed}: kept, though {note}"
            if text not in self.notes:
                self.notes.append(text)

    def _write(self) -> None:
        plan = self.plan
        slugs = {cell.label: cell.slug for cell in plan.cells}
        content = {
            "cells": [
                {
                    "label": cell.label,
                    "settings": plan.differing(cell),
                    "slug": cell.slug,
                    "reward": cell.reward,
                }
                for cell in plan.cells
            ],
            "seeds": list(plan.seeds),
            "timesteps": plan.timesteps,
            "dropped": self.dropped,
            "notes": self.notes,
            "failures": [
                {
                    "name": f"{CELLS}/{slugs[job.cell]}/seed-{job.seed}",
                    "cell": job.cell,
                    "seed": job.seed,
                    "reason": job.reason,
                    "lines": list(job.last_lines),
                }
                for job in self.jobs
                if job.state == "failed"
            ],
        }
        write_study_file(self.place, content)


def standings(plan: Plan) -> dict[tuple[str, int], Standing]:
    """How every run of a plan stands, by slug and seed."""
    return {
        (cell.slug, seed): standing_of(
            absolute(plan.directory(cell, seed)),
            plan.expected(cell, seed),
            plan.prompts_sha256,
            plan.judges,
        )
        for cell in plan.cells
        for seed in plan.seeds
    }


def run_command(plan: Plan, cell: PlannedCell, seed: int, *, resume: bool = False) -> list[str]:
    """The words of a run's command line."""
    words = command_words(plan.settings(cell, seed))
    if resume:
        words = ["--out", str(plan.directory(cell, seed)), "--resume"]
    return [sys.executable, "-m", "textgym", "train", *words, "--no-progress-bar"]


def tokens_recorded(directory: Path) -> int:
    """How far a run is, in completion tokens."""
    step = (last_row(directory / METRICS) or {}).get("step")
    return int(step) if isinstance(step, int | float) else 0


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1
