"""What a logger holds between an update and the next rollout, and where its record ends.

Stable-Baselines3 logs an update's figures with the next rollout's, and makes a new logger at every
`learn`: a run that goes on in another process takes them over.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from textgym.agents.runs.metrics_writer import JSONLines
from textgym.json_lines import cut_rows
from textgym.run_files import HELD_OUT, METRICS, REWARD_EXTRA, SAMPLES
from textgym.saved_fields import SavedFields

Numbers = dict[str, float | int]


@dataclass
class RowsUntil:
    """The step of the last row of each record, counted through all `learn`s; None without one."""

    metrics: int | None = None
    samples: int | None = None


@dataclass
class LoggerState:
    """The figures that wait in a logger for the next rollout's.

    :param step: SB3's `num_timesteps` at which it was taken.
    :param counts: of the figures that are means.
    :param excluded: the outputs that a figure does not go to.
    :param kept: figures that wait for the next line of the record.
    :param last_step: of the last line.
    """

    step: int
    values: Numbers = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    excluded: dict[str, list[str]] = field(default_factory=dict)
    kept: Numbers = field(default_factory=dict)
    last_step: int | None = None

    @classmethod
    def of(cls, step: int, logger: Logger | None, writer: JSONLines | None) -> "LoggerState":
        """The state of a logger; None is one that does not exist yet."""
        state = cls(step)
        if logger is not None:
            state.values = _numbers(logger.name_to_value)
            counts, excluded = logger.name_to_count, logger.name_to_excluded
            state.counts = {k: int(n) for k, n in counts.items() if n and k in state.values}
            state.excluded = {k: _names(v) for k, v in excluded.items() if k in state.values}
        if writer is not None and logger is not None and writer in logger.output_formats:
            state.kept, state.last_step = _numbers(writer.kept), writer.last_step
        return state

    def state_dict(self) -> dict[str, Any]:
        """JSON values; a figure that is not finite is null."""
        return dict(vars(self))

    @classmethod
    def from_state(cls, content: Any) -> "LoggerState":
        """The inverse of `state_dict`.

        :raises InputError: if it is none.
        """
        fields = SavedFields(content, "state of the logger")
        tables = {name: fields.table(name) for name in ("values", "counts", "excluded", "kept")}
        return cls(
            step=fields.whole("step"),
            values=_checked_numbers(tables["values"]),
            counts={name: tables["counts"].whole(name) for name in tables["counts"].content},
            excluded={name: tables["excluded"].texts(name) for name in tables["excluded"].content},
            kept=_checked_numbers(tables["kept"]),
            last_step=fields.whole("last_step") if fields.has("last_step") else None,
        )

    def go_on(self, logger: Logger, writer: JSONLines | None) -> None:
        """Give a new logger, and its record's writer, what the old ones held."""
        for name, value in self.values.items():
            logger.name_to_value.setdefault(name, value)
            logger.name_to_count[name] = self.counts.get(name, 0)
            logger.name_to_excluded[name] = tuple(self.excluded.get(name, ()))
        if writer is not None:
            writer.kept, writer.last_step = dict(self.kept), self.last_step


def cut_record(run: Path, until: RowsUntil, step: int) -> None:
    """Take out of a run's records the rows behind the state that the run goes on from.

    :param run: its directory.
    :param step: of the state, counted through all `learn`s; held-out evaluations stay up to it.
    :raises StorageError: if they cannot be written.
    """
    ends = {
        METRICS: until.metrics,
        REWARD_EXTRA: until.metrics,
        SAMPLES: until.samples,
        HELD_OUT: step,
    }
    for name, last in ends.items():
        cut_rows(run / name, -1 if last is None else last)


def mark_start(logger: Logger, step: int) -> None:
    """Tell TensorBoard that a process begins here: what an earlier one wrote later goes.

    It is what torch's `SummaryWriter(purge_step=...)` writes. The first of these marks in a
    directory purges nothing, so that every process has to make one.

    :param step: what was logged up to it stays.
    """
    for output in logger.output_formats:
        if isinstance(output, TensorBoardOutputFormat):
            writer: Any = output.writer
            start = Event(session_log=SessionLog(status=SessionLog.START))
            writer.file_writer.add_event(start, step=step + 1 if step else 0)


def _numbers(values: dict[str, Any]) -> Numbers:
    """The numbers among logged values; pictures and texts are not kept."""
    numbers = {k: v for k, v in values.items() if isinstance(v, int | float | np.number)}
    return {k: v.item() if isinstance(v, np.number) else v for k, v in numbers.items()}


def _checked_numbers(fields: SavedFields) -> Numbers:
    """Numbers of a table; null is one that was not finite."""
    result: Numbers = {}
    for name, value in fields.content.items():
        if value is None:
            result[name] = math.nan
        else:
            fields.number(name)
            result[name] = value
    return result


def _names(excluded: Any) -> list[str]:
    if not excluded:
        return []
    return [excluded] if isinstance(excluded, str) else list(excluded)
