"""From the rows of a store to records, and back."""

import json
import sqlite3
from typing import Any

from textgym.reward_models.people.records import Event, Item, Reply, Text, winner_of

ITEMS = """
SELECT items.*, one.text AS text_1, one.source AS source_1, one.is_cut AS is_cut_1,
    two.text AS text_2, two.source AS source_2, two.is_cut AS is_cut_2
FROM items JOIN texts AS one ON one.id = first LEFT JOIN texts AS two ON two.id = second
"""
EVENTS = """
SELECT events.*, showings.item, showings.is_swapped, showings.is_repeat, raters.name
FROM events JOIN showings ON showings.id = showing JOIN raters ON raters.id = showings.rater
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
