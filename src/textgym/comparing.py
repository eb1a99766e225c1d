"""`textgym.compare`: reward models, agents and starting policies, each with several seeds."""

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from textgym.agents.comparison.cells import PlannedCell, command_words
from textgym.agents.comparison.live_table import Watch, live_table, plain_lines
from textgym.agents.comparison.schedule import Job, run_jobs, wait_until_free
from textgym.agents.comparison.seeds import seeds_of, written_seeds
from textgym.agents.comparison.standing import Standing, standing_of
from textgym.agents.comparison.study_files import (
    check_study_place,
    log_of,
    move_aside,
    read_study_file,
    write_study_file,
    write_study_files,
)
from textgym.agents.runs.json_lines import last_row
from textgym.agents_by_name import DEFAULT_N_ENVS
from textgym.checks import check_numbers
from textgym.held_out_evaluations import check_evaluations
from textgym.paths import absolute
from textgym.planning.costs import check_room, dry_run_lines
from textgym.planning.names import listed
from textgym.planning.plan import Plan, planned
from textgym.run_files import CELLS, METRICS
from textgym.storage import run_lock

WAIT_SECONDS = 60.0  # for runs of a comparison that was killed: they save first


@dataclass(frozen=True)
class Comparison:
    """How the runs of a comparison ended.

    :param out: the study's directory.
    :param notes: runs that were made anew, and why.
    :param failures: the runs that failed, each with the reason in a line.
    """

    out: Path
    notes: Sequence[str] = ()
    failures: Mapping[str, str] = field(default_factory=dict)


def compare(
    env: str,
    *,
    agent: str | Sequence[str] = "ppo",
    policy: str | Path | Sequence[str | Path] | None = None,
    reward: str | Path | Sequence[str | Path] | None = None,
    gold: str | Sequence[str] = (),
    shadow: str | Sequence[str] = (),
    seeds: int | str | Sequence[int] = 5,
    timesteps: int = 100_000,
    out: str | Path,
    evaluations: int = 5,
    prompts: str | Path | None = None,
    jobs: int | None = None,
    dry_run: bool = False,
    n_envs: int = DEFAULT_N_ENVS,
    reference: str | Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
    pad_token: str | None = None,
    checkpoint_seconds: float = 300.0,
    checkpoint_tokens: int | None = None,
    keep: int = 2,
    progress_bar: bool = True,
    report: Callable[[str], None] = print,
    **keywords: Any,
) -> "Comparison | None":
    """Train every agent with every policy and every reward model, and compare what they write.

    A cell is one of each; its runs differ in their seed. Every run is what `textgym train` makes
    with the command line that `dry_run` prints, in a process of its own with one thread; all
    continue the same held-out prompts, which every reward model scores. Runs that are there
    already are not trained again: the same call goes on after an interrupt.

    :param env: an environment's id, or "module:id".
    :param agent: the algorithm; keywords of its own follow after commas, "ppo,kl_coef=0.1". May be
        given several times, as `policy` and `reward`: all combinations are compared.
    :param policy: checkpoint or run directory of a language model to start from; without it, a
        small fresh one.
    :param reward: a registered name, a reward model's directory or "module:attribute"; without it,
        the environment's own.
    :param gold: independent judges, which no cell trains on; may be given several times.
    :param shadow: further reward models that look on; those that other cells train on do anyway.
    :param seeds: how many seeds each cell has (5: 0 to 4), or which, "3,8".
    :param timesteps: completion tokens of every run, rounded up to whole rollouts.
    :param out: directory of the study; its runs stand in cells/CELL/seed-N.
    :param evaluations: held-out evaluations of each run, start and end included.
    :param prompts: a file of held-out prompts (.txt, .jsonl, .csv); without it, the task's own.
    :param jobs: runs at a time (default: the cores that this process may use).
    :param dry_run: only say what would run, how long it takes and how much disk it needs.
    :param n_envs: rows that play at a time.
    :param reference: the model of the KL term (default: the starting policy).
    :param env_kwargs: fields of the task to replace, such as max_new_tokens=24.
    :param pad_token: as `make_agent`'s.
    :param checkpoint_seconds, checkpoint_tokens, keep: as `train`'s.
    :param progress_bar: show a live table on a terminal; elsewhere, and without it, lines.
    :param report: shows a line of text.
    :param keywords: further keywords of the agents, for all cells.
    :return: how the runs ended; None after `dry_run`.
    :raises InputError: before anything has run, for what would fail or could not be compared.
    :raises StorageError: if `out` cannot be written, is in use, or the disk has no room.
    :raises KeyboardInterrupt: after an interrupt, once all runs have stopped and saved.
    """
    shared = {
        "timesteps": timesteps,
        "evaluations": evaluations,
        "n_envs": n_envs,
        "reference": None if reference is None else str(reference),
        "env_kwargs": env_kwargs,
        "pad_token": pad_token,
        "checkpoint_seconds": checkpoint_seconds,
        "checkpoint_tokens": checkpoint_tokens,
        "keep": keep,
    }
    axes = {name: listed(name, value) for name, value in (
        ("agent", agent), ("policy", policy), ("reward", reward), ("gold", gold),
        ("shadow", shadow))}  # fmt: skip
    numbers = seeds_of(seeds)
    check_numbers({**shared, **keywords, "jobs": jobs})
    check_evaluations(evaluations or 1, prompts=prompts, gold=axes["gold"])
    plan = planned(
        env,
        axes,
        keywords,
        seeds=numbers,
        shared=shared,
        prompts=prompts,
        out=str(out),
        measure=dry_run,
    )
    place = absolute(out)
    check_study_place(place, env=env, timesteps=timesteps, prompts=plan.prompts)
    at_a_time = jobs or cores()
    if dry_run:
        for line in dry_run_lines(plan, standings(plan), at_a_time):
            report(line)
        return None
    given = {
        **{"verb": "compare", "env": env, **axes, "seeds": written_seeds(numbers)},
        **{"out": str(out), "prompts": None if prompts is None else str(prompts), **plan.shared},
    }
    with run_lock(place):
        study = _Study(plan, place, report)
        study.begin({k: v for k, v in given.items() if v is not None and v != []})
        study.run(at_a_time, show_table=progress_bar)
    return _ended(study, report)


class _Study:
    """The runs of a plan in a directory that is held, and what `study.json` says of them."""

    def __init__(self, plan: Plan, place: Path, report: Callable[[str], None]) -> None:
        self.plan, self.place, self.report = plan, place, report
        self.notes: list[str] = list(read_study_file(place).get("notes", []))
        self.jobs: list[Job] = []

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


def _ended(study: _Study, report: Callable[[str], None]) -> Comparison:
    """Say what there is to read, and which runs failed with their last lines."""
    failed = [job for job in study.jobs if job.state == "failed"]
    for note in study.notes:
        report(f"note: {note}")
    for job in failed:
        report(f"{job.name} failed: {job.reason}; its last lines ({job.log}):")
        for line in job.last_lines:
            report(f"    {line}")
    done = sum(job.state in ("finished", "kept") for job in study.jobs)
    report(f"{study.plan.out}: {done} of {len(study.jobs)} runs are done")
    return Comparison(study.place, study.notes, {job.name: job.reason for job in failed})


def standings(plan: Plan) -> dict[tuple[str, int], Standing]:
    """How every run of a plan stands, by slug and seed."""
    return {
        (cell.slug, seed): standing_of(
            absolute(plan.directory(cell, seed)), plan.expected(cell, seed), plan.prompts_sha256
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
