"""What the guards of a study's runs saw: read from the runs, and told as cautions of a cell."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from textgym.agents.comparison.study import Study
from textgym.agents.runs.alarms import Alarm
from textgym.errors import InputError
from textgym.json_lines import read_rows
from textgym.run_files import ALARMS


def alarms_of(run: Path) -> tuple[Alarm, ...]:
    """The alarms of a run, in order; none where it had no guards, or their file cannot be read.

    :param run: its directory.
    """
    names = {field.name for field in fields(Alarm)}
    try:
        rows = read_rows(run / ALARMS) if (run / ALARMS).is_file() else []
        return tuple(Alarm(**{k: v for k, v in row.items() if k in names}) for row in rows)
    except (InputError, TypeError):
        return ()


def kinds_of(run: Path) -> tuple[str, ...]:
    """The kinds of alarm that a run raised, in order."""
    return tuple(alarm.kind for alarm in alarms_of(run))


def guard_cautions(study: Study) -> list[str]:
    """A sentence for each cell and kind of alarm: in how many runs, since when, and what was seen.

    The exploit is the one that most of these runs name; what was seen is the first run's.
    """
    found = []
    for cell in study.cells:
        runs = study.runs_of(cell.label)
        alarms = [alarm for run in runs for alarm in alarms_of(run.directory)]
        for kind in dict.fromkeys(alarm.kind for alarm in alarms):
            same = [alarm for alarm in alarms if alarm.kind == kind]
            found.append(_sentence(cell.label, same, len(runs)))
    return found


def _sentence(cell: str, alarms: Sequence[Alarm], runs: int) -> str:
    """Of alarms of one kind."""
    first = min(alarms, key=lambda alarm: alarm.step)
    named = [alarm.exploit for alarm in alarms if alarm.exploit]
    exploit = max(named, key=named.count, default="")
    pays = f"; its reward seems to pay for {exploit}" if exploit else ""
    many = f"{len(alarms)} of {runs} runs" if runs > 1 else "its run"
    return (
        f"{cell}: the guards of {many} raised “{first.kind}”, first at {first.step:,} tokens: "
        f"{first.says}{pays}"
    )
