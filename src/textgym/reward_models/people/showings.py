"""The showings of a store: which item stands in front of which rater, and until when.

Each function works on the connection of a transaction.
"""

import sqlite3
from collections.abc import Sequence

from textgym.errors import InputError
from textgym.reward_models.people.records import Showing
from textgym.reward_models.people.rows import ITEMS, item_of


def show(
    connection: sqlite3.Connection,
    rater: int,
    picked: tuple[int, bool, bool],
    now: float,
    lease: float,
) -> int:
    """Reserve an item for a rater; shown before, it keeps its order.

    :param picked: as `queue.pick` gives it: item, is_swapped, is_repeat.
    :param lease: seconds from now.
    :returns: the id of the showing.
    """
    item, is_swapped, is_repeat = picked
    connection.execute(
        "INSERT INTO showings (item, rater, is_swapped, is_repeat, shown_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at",
        (item, rater, int(is_swapped), int(is_repeat), now, now + lease),
    )
    row = connection.execute(
        "SELECT id FROM showings WHERE item = ? AND rater = ? AND is_repeat = ?",
        (item, rater, int(is_repeat)),
    ).fetchone()
    return int(row["id"])


def unanswered(
    connection: sqlite3.Connection,
    rater: int,
    held: Sequence[int],
    count: int,
    now: float,
    lease: float,
) -> list[int]:
    """What a rater has not answered yet and still may; reserved anew.

    :param held: showings that are not wanted again.
    :param count: of them at most.
    :returns: ids, in order.
    """
    rows = connection.execute(
        "SELECT showings.id, is_repeat, expires_at FROM showings JOIN items"
        " ON items.id = showings.item WHERE rater = ? AND answer IS NULL AND is_open"
        " AND (expires_at > ? OR is_repeat) ORDER BY showings.id",
        (rater, now),
    ).fetchall()
    found = [row["id"] for row in rows if row["id"] not in set(held)][:count]
    connection.executemany(
        "UPDATE showings SET expires_at = ? WHERE id = ?",
        [(now + lease, showing) for showing in found],
    )
    return found


def showings_of(connection: sqlite3.Connection, ids: Sequence[int]) -> list[Showing]:
    """The showings of these ids, in order; those that there are."""
    found = []
    for number in ids:
        row = connection.execute(
            "SELECT showings.*, raters.name FROM showings JOIN raters ON raters.id = rater"
            " WHERE showings.id = ?",
            (number,),
        ).fetchone()
        if row is None:
            continue
        item = connection.execute(f"{ITEMS} WHERE items.id = ?", (row["item"],)).fetchone()
        found.append(
            Showing(
                row["id"],
                item_of(item),
                row["name"],
                bool(row["is_swapped"]),
                bool(row["is_repeat"]),
                row["shown_at"],
                row["expires_at"],
                row["answer"],
            )
        )
    return found


def own_showing(connection: sqlite3.Connection, rater: str, showing: int) -> Showing:
    """A showing of this rater.

    :raises InputError: if it is none, or another's.
    """
    found = showings_of(connection, [showing])
    if not found or found[0].rater != rater:
        raise InputError(f"showing {showing} is none of this rater's: ask for the next one")
    return found[0]
