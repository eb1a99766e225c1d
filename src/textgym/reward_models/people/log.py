"""The log of a store: answers, and answers taken back. It only grows.

Each function works on the connection of a transaction.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

from textgym.reward_models.people.records import Event, Reply
from textgym.reward_models.people.rows import EVENTS, content_of, event_of
from textgym.reward_models.people.validation import ConflictError


def events_where(
    connection: sqlite3.Connection, condition: str, values: Sequence[Any]
) -> list[Event]:
    """The lines of the log for which an SQL condition holds."""
    return [event_of(row) for row in connection.execute(f"{EVENTS} WHERE {condition}", values)]


def with_key(connection: sqlite3.Connection, key: str) -> Event | None:
    """The line of a key; None if there is none."""
    return next(iter(events_where(connection, "events.key = ?", (key,))), None)


def append_reply(connection: sqlite3.Connection, reply: Reply, now: float) -> int:
    """A line more, and its showing is answered; returns the line's id."""
    event = connection.execute(
        "INSERT INTO events (showing, key, choice, strength, score, rewrite, reason,"
        " facts, note, shown_at, answered_at, received_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*content_of(reply), reply.shown_at, reply.answered_at, now),
    ).lastrowid
    connection.execute(
        "UPDATE showings SET answer = ?, is_skipped = ? WHERE id = ?",
        (event, int(reply.choice == "skip"), reply.showing),
    )
    return int(event or 0)


def append_undo(
    connection: sqlite3.Connection,
    rater: str,
    key: str,
    answer: int | None,
    *,
    now: float,
    lease: float,
) -> Event | None:
    """Take an answer back: a line more, nothing less, and its showing is open again.

    :param answer: which of the rater's answers; None takes the latest that stands.
    :param lease: seconds that the showing is reserved again.
    :returns: the line, also where this key has taken it back before; None if there is nothing.
    :raises ConflictError: if that answer is undone already, or the key was used otherwise.
    """
    stored = with_key(connection, key)
    if stored is not None:
        is_other = answer not in (None, stored.undoes)
        if stored.undoes is None or stored.rater != rater or is_other:
            raise ConflictError(f"the key {key!r:.60} was used for something else")
        return stored
    row = connection.execute(
        "SELECT showings.id, answer FROM showings JOIN raters ON raters.id = rater"
        " WHERE name = ? AND answer IS NOT NULL AND ifnull(answer = ?, 1)"
        " ORDER BY answer DESC LIMIT 1",
        (rater, answer),
    ).fetchone()
    if row is None:
        if answer is not None:
            raise ConflictError(f"{answer} is no standing answer of this rater")
        return None
    event = connection.execute(
        "INSERT INTO events (showing, key, note, shown_at, answered_at, received_at,"
        " undoes) VALUES (?, ?, '', ?, ?, ?, ?)",
        (row["id"], key, now, now, now, row["answer"]),
    ).lastrowid
    connection.execute(
        "UPDATE showings SET answer = NULL, is_skipped = 0, expires_at = ? WHERE id = ?",
        (now + lease, row["id"]),
    )
    return events_where(connection, "events.id = ?", (event,))[0]
