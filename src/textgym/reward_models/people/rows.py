"""From the rows of a store to records, and back."""

import json
import sqlite3
from typing import Any

from textgym.reward_models.people.records import Event, Item, NewItem, Reply, Text, winner_of
from textgym.storage import json_text

ITEMS = """
SELECT items.*, one.text AS text_1, one.source AS source_1, one.is_cut AS is_cut_1,
    two.text AS text_2, two.source AS source_2, two.is_cut AS is_cut_2
FROM items JOIN texts AS one ON one.id = first LEFT JOIN texts AS two ON two.id = second
"""
EVENTS = """
SELECT events.*, showings.item, showings.is_swapped, showings.is_repeat, raters.name
FROM events JOIN showings ON showings.id = showing JOIN raters ON raters.id = showings.rater
"""

# How far a rater is: :now minus a day and the rater; the rater and how many an item is for.
DONE = """
SELECT count(*) AS n, count(CASE WHEN received_at > ? THEN 1 END) AS today
FROM showings JOIN events ON events.id = answer WHERE rater = ?
"""
LEFT = """
SELECT count(*) AS n FROM items WHERE is_open AND NOT EXISTS (
        SELECT 1 FROM showings
        WHERE item = items.id AND rater = ?1 AND NOT is_repeat AND answer IS NOT NULL)
    AND (gold IS NOT NULL OR ?2 > (
        SELECT count(*) FROM showings WHERE item = items.id AND rater <> ?1
        AND NOT is_repeat AND answer IS NOT NULL AND NOT is_skipped))
"""


def item_of(row: sqlite3.Row) -> Item:
    """A row of `ITEMS`."""
    sides = (1,) if row["second"] is None else (1, 2)
    texts = tuple(
        Text(row[f"text_{n}"], json.loads(row[f"source_{n}"]), bool(row[f"is_cut_{n}"]))
        for n in sides
    )
    names = ("kind", "key", "priority", "gold", "query", "lang", "id", "added_at")
    values = {name: row[name] for name in names}
    return Item(prompt=row["prompt"], texts=texts, is_open=bool(row["is_open"]), **values)


def event_of(row: sqlite3.Row) -> Event:
    """A row of `EVENTS`."""
    what = ("id", "item", "showing", "key", "choice", "strength", "score", "rewrite", "reason")
    names = (*what, "facts", "note", "shown_at", "answered_at", "received_at", "undoes")
    is_swapped = bool(row["is_swapped"])
    return Event(
        rater=row["name"],
        winner=winner_of(row["choice"], is_swapped),
        is_swapped=is_swapped,
        is_repeat=bool(row["is_repeat"]),
        **{name: row[name] for name in names},
    )


def content_of(of: Reply | Event) -> tuple[Any, ...]:
    """What a reply says, in the order of the columns."""
    what = (of.showing, of.key, of.choice, of.strength, of.score, of.rewrite, of.reason)
    return (*what, of.facts, of.note)


def limit_of(limit: int | None) -> int:
    """As SQLite takes it: -1 for no limit."""
    return -1 if limit is None else limit


def add_item(connection: sqlite3.Connection, item: NewItem, now: float) -> int:
    """An item's row and those of its texts; returns its id, also where its key is there already."""
    if item.key is not None:
        row = connection.execute("SELECT id FROM items WHERE key = ?", (item.key,)).fetchone()
        if row is not None:
            return int(row["id"])
    texts = [
        connection.execute(
            "INSERT INTO texts (text, source, is_cut) VALUES (?, ?, ?)",
            (text.text, json_text(dict(text.source)), int(text.is_cut)),
        ).lastrowid
        for text in item.texts
    ]
    sides = (texts[0], texts[1] if len(texts) > 1 else None)
    rest = (item.key, item.priority, item.gold, item.query, item.lang, now)
    cursor = connection.execute(
        "INSERT INTO items (kind, prompt, first, second, key, priority, gold, query, lang,"
        " added_at, is_open) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
        (item.kind, item.prompt, *sides, *rest),
    )
    return int(cursor.lastrowid or 0)
