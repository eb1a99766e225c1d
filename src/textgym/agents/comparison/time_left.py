"""How long the runs of a study still take, from how far they are."""

import heapq
import statistics
from collections.abc import Sequence

from textgym.agents.comparison.schedule import Job


def seconds_left(job: Job, now: float) -> float | None:
    """Seconds until a run that is at work ends; None before it has learned anything.

    :param now: seconds, on the clock of `Job.started`.
    """
    grown = job.tokens - job.began_at
    if job.state != "running" or grown <= 0:
        return None
    whole = (job.timesteps - job.began_at) * (job.changed - job.started) / grown
    return max(0.0, whole - (now - job.started))


def study_seconds_left(jobs: Sequence[Job], at_a_time: int, now: float) -> float | None:
    """Seconds until all runs have ended; None before anything is known.

    Runs that wait take as long as those of their cell did, or else as all did on average.
    """
    known: list[tuple[str, float]] = []
    for job in jobs:
        if job.state == "finished" and job.seconds is not None and not job.began_at:
            known.append((job.cell, job.seconds))
        elif (left := seconds_left(job, now)) is not None and not job.began_at:
            known.append((job.cell, now - job.started + left))
    if not known and not any(seconds_left(job, now) is not None for job in jobs):
        return None
    everywhere = statistics.fmean(seconds for _, seconds in known) if known else 0.0

    def usual(cell: str) -> float:
        own = [seconds for name, seconds in known if name == cell]
        return statistics.fmean(own) if own else everywhere

    ends = []
    for job in jobs:
        if job.state == "running":
            left = seconds_left(job, now)
            ends.append(max(0.0, usual(job.cell) - now + job.started) if left is None else left)
    ends += [0.0] * max(0, at_a_time - len(ends))
    heapq.heapify(ends)
    for job in jobs:
        if job.state == "waiting":
            heapq.heappush(ends, heapq.heappop(ends) + usual(job.cell))
    return max(ends)


def written_time(seconds: float) -> str:
    """A time as a table shows it: 0:42, 12:05, 3:07:41."""
    whole = round(seconds)
    minutes, hours = whole // 60 % 60, whole // 3600
    if hours:
        return f"{hours}:{minutes:02}:{whole % 60:02}"
    return f"{minutes}:{whole % 60:02}"
