"""A study while it runs: a live table on a terminal, elsewhere a line for each change."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from textgym.agents.comparison.schedule import Job
from textgym.agents.comparison.time_left import seconds_left, study_seconds_left, written_time
from textgym.terminal import visible

Watch = Callable[[Sequence[Job]], None]
_BAR = 12


@contextlib.contextmanager
def live_table(at_a_time: int, console: Console) -> Iterator[Watch]:
    """A function that shows the runs of a study on a terminal, as `run_jobs` takes it.

    :param at_a_time: runs side by side, for the time left.
    """
    with Live(console=console, auto_refresh=False) as live:

        def show(jobs: Sequence[Job]) -> None:
            live.update(study_table(jobs, at_a_time, time.monotonic()), refresh=True)

        yield show


def plain_lines(at_a_time: int, say: Callable[[str], None]) -> Watch:
    """A function that says a line for each run whose state has changed since its last call."""
    shown: dict[str, str] = {}

    def watch(jobs: Sequence[Job]) -> None:
        now = time.monotonic()
        kept = sum(job.state == "kept" for job in jobs)
        if kept and not shown:
            say(f"{kept} of {len(jobs)} runs are finished already")
            shown.update({job.name: "kept" for job in jobs if job.state == "kept"})
        for job in jobs:
            before = shown.get(job.name)
            shown[job.name] = job.state
            if job.state != (before or "waiting"):
                say(change_line(job, jobs, at_a_time, now))

    return watch


def change_line(job: Job, jobs: Sequence[Job], at_a_time: int, now: float) -> str:
    """What happened to a run, in a line."""
    done = sum(other.state in ("finished", "kept") for other in jobs)
    what = {
        "kept": "finished already",
        "running": "goes on" if job.began_at else "begins",
        "failed": f"failed: {job.reason}",
        "stopped": "stopped",
        "finished": "finished",
        "waiting": "waits",
    }[job.state]
    line = f"[{done}/{len(jobs)}] {job.name}: {what}"
    if job.state == "finished" and job.seconds is not None:
        line += f" in {written_time(job.seconds)}"
        left = study_seconds_left(jobs, at_a_time, now)
        if left:
            line += f", {written_time(left)} left"
    if job.alarms and job.state == "finished":
        line += f"; its guards raised {_in_words(job.alarms)}"
    return visible(line)


def study_table(jobs: Sequence[Job], at_a_time: int, now: float) -> Table:
    """A row for each cell: how many of its runs are done, how far those at work are."""
    done = sum(job.state in ("finished", "kept") for job in jobs)
    left = study_seconds_left(jobs, at_a_time, now)
    is_over = all(job.state not in ("waiting", "running") for job in jobs)
    until = "" if left is None or is_over else f", {written_time(left)} left"
    table = Table(caption=f"{done} of {len(jobs)} runs done, {at_a_time} at a time{until}")
    table.add_column("cell", overflow="fold")
    table.add_column("done", justify="right")
    table.add_column("at work")
    table.add_column("failed", overflow="fold")
    has_alarms = any(job.alarms for job in jobs)
    if has_alarms:
        table.add_column("alarms", overflow="fold")
    for cell in dict.fromkeys(job.cell for job in jobs):
        own = [job for job in jobs if job.cell == cell]
        finished = sum(job.state in ("finished", "kept") for job in own)
        at_work = "\n".join(_bar(job, now) for job in own if job.state == "running")
        failed = "\n".join(
            f"seed {j.seed}: {_shortened(j.reason)}" for j in own if j.state == "failed"
        )
        alarms = "\n".join(f"seed {j.seed}: {_in_words(j.alarms)}" for j in own if j.alarms)
        cells = (
            cell,
            f"{finished}/{len(own)}",
            at_work,
            failed,
            *((alarms,) if has_alarms else ()),
        )
        table.add_row(*(escape(visible(text)) for text in cells))
    return table


def _in_words(alarms: Sequence[str]) -> str:
    return "; ".join(alarms)


def _shortened(reason: str, most: int = 90) -> str:
    return reason if len(reason) <= most else f"{reason[: most - 1]}…"


def _bar(job: Job, now: float) -> str:
    share = min(1.0, job.tokens / max(1, job.timesteps))
    full = round(_BAR * share)
    left = seconds_left(job, now)
    until = "" if left is None else f" {written_time(left)} left"
    return f"seed {job.seed} {'█' * full}{'░' * (_BAR - full)} {share:4.0%}{until}"
