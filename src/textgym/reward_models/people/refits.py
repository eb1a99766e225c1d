"""The refits of a store: which reward model was fitted to which answers, and when in its run."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from textgym.reward_models.people.records import Refit
from textgym.reward_models.people.validation import ConflictError
from textgym.storage import json_text


def note_refit(
    connection: sqlite3.Connection,
    run: str,
    step: int,
    answers: Sequence[int],
    details: Mapping[str, Any],
    now: float,
) -> int:
    """Note a refit, once per run and step; returns its id.

    :raises ConflictError: if another fit of that run and step is noted.
    """
    content = (json_text(list(answers)), json_text(dict(details)))
    row = connection.execute(
        "SELECT id, answers FROM refits WHERE run = ? AND step = ?", (run, step)
    ).fetchone()
    if row is not None:
        if row["answers"] != content[0]:
            raise ConflictError(f"run {run!r:.60}, step {step}: has another refit")
        return int(row["id"])
    cursor = connection.execute(
        "INSERT INTO refits (run, step, answers, details, at) VALUES (?, ?, ?, ?, ?)",
        (run, step, *content, now),
    )
    return int(cursor.lastrowid or 0)


def refit_of(row: sqlite3.Row) -> Refit:
    """A row of the table."""
    answers, details = tuple(json.loads(row["answers"])), json.loads(row["details"])
    return Refit(row["id"], row["run"], row["step"], answers, details, row["at"])
