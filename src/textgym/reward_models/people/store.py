"""The store of people's judgements: one SQLite file that only grows.

    with LabelStore("labels.db", raters=2) as store:
        store.add_items([NewItem("The film ", (Text("was fine."), Text("was bad.")))])
        (showing,) = store.next("anna")
        store.answer("anna", Reply(showing.id, key="k1", choice="a"))
        store.events()

One process writes: the server while one runs, which others reach over HTTP (`people.client`), or
else whoever has the store open. What a method has returned is on the disk.
"""

import json
import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.people.database import Database
from textgym.reward_models.people.queue import pick
from textgym.reward_models.people.records import (
    KINDS,
    Choice,
    Event,
    Item,
    Kind,
    NewItem,
    Progress,
    Refit,
    Reply,
    Settings,
    Showing,
)
from textgym.reward_models.people.rows import (
    EVENTS,
    ITEMS,
    content_of,
    event_of,
    item_of,
    limit_of,
)
from textgym.reward_models.people.validation import check_item, check_reply, check_text, checked
from textgym.storage import json_text

LEASE = 600.0  # seconds


class ConflictError(InputError):
    """A reply that does not fit what is stored: its showing is answered, its key was used."""


class LabelStore:
    """A store of labels, open for writing (or reading only); a context manager.

    :param path: of the file, made if missing.
    :param is_read_only: look only; works beside a writer.
    :param wait: seconds to wait for another writer.
    :param clock: seconds since 1970.
    :param lease: seconds that a showing is reserved.
    :param settings: `Settings` of a new store, by name; those of an existing one stay as they are.
    :raises StoreInUse: if another process writes it.
    :raises StorageError: if it cannot be written.
    :raises InputError: for a file that is no store or one of a newer version.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        is_read_only: bool = False,
        wait: float = 0.0,
        clock: Callable[[], float] = time.time,
        lease: float = LEASE,
        **settings: Any,
    ) -> None:
        chosen = checked(Settings(**settings))
        self._database = Database(path, is_read_only=is_read_only, wait=wait)
        self.path = self._database.path
        self.lease = lease
        self._clock = clock
        try:
            if not is_read_only:
                self._keep_settings(chosen)
            self.settings = self._read_settings()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others write."""
        self._database.close()

    # What is asked

    def add_items(self, items: Sequence[NewItem]) -> list[int]:
        """Add items, all or none; one whose key is there already is not added again.

        :returns: the ids, in order.
        :raises InputError: for an item that is none, naming its place.
        """
        for place, item in enumerate(items):
            check_item(item, f"item {place}")
        with self._database.writing() as connection:
            return [self._add(connection, item) for item in items]

    def _add(self, connection: sqlite3.Connection, item: NewItem) -> int:
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
        rest = (item.key, item.priority, item.gold, item.query, item.lang, self._clock())
        cursor = connection.execute(
            "INSERT INTO items (kind, prompt, first, second, key, priority, gold, query, lang,"
            " added_at, is_open) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1)",
            (item.kind, item.prompt, *sides, *rest),
        )
        return int(cursor.lastrowid or 0)

    def items(self, since: int = 0, limit: int | None = None) -> list[Item]:
        """The items with ids above `since`, in order of id."""
        return self._items("items.id > ? ORDER BY items.id LIMIT ?", (since, limit_of(limit)))

    def close_items(self, ids: Sequence[int]) -> None:
        """Ask nobody any more about these items; answers stay."""
        with self._database.writing() as connection:
            connection.executemany("UPDATE items SET is_open = 0 WHERE id = ?", [(i,) for i in ids])

    def _items(self, condition: str, values: Sequence[Any]) -> list[Item]:
        return [item_of(row) for row in self._database.rows(f"{ITEMS} WHERE {condition}", values)]

    # Raters

    def join(self, rater: str) -> int:
        """The id of a rater, who is added if new.

        :raises InputError: for a name that is empty or over 100 characters.
        """
        check_text(rater, "rater", 100)
        if not rater.strip():
            raise InputError("rater must be a name, got an empty one")
        rows = self._database.rows("SELECT id FROM raters WHERE name = ?", (rater,))
        if rows:
            return int(rows[0]["id"])
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO raters (name, joined_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
                (rater, self._clock()),
            )
            row = connection.execute("SELECT id FROM raters WHERE name = ?", (rater,)).fetchone()
            return int(row["id"])

    def raters(self) -> list[str]:
        """Everybody who joined, in order."""
        return [row["name"] for row in self._database.rows("SELECT name FROM raters ORDER BY id")]

    def next(
        self,
        rater: str,
        count: int = 1,
        *,
        held: Sequence[int] = (),
        kinds: Sequence[Kind] = KINDS,
    ) -> list[Showing]:
        """Up to `count` showings for a rater, each reserved for `lease` seconds from now.

        First those that the rater has not answered yet, then new ones.

        :param held: showings that the page has already: they are not given again.
        """
        number, now = self.join(rater), self._clock()
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise InputError(f"kinds must be among {', '.join(KINDS)}, got {list(kinds)!r:.60}")
        with self._database.writing() as connection:
            found = self._unanswered(connection, number, now, held, count)
            while len(found) < count:
                picked = pick(
                    connection,
                    number,
                    now,
                    kinds=tuple(kinds),
                    raters=self.settings.raters,
                    seed=self.settings.seed,
                    repeats=self.settings.repeats,
                    gold=self.settings.gold,
                )
                if picked is None:
                    break
                found.append(self._show(connection, number, now, *picked))
            return self._showings(connection, found)

    def _unanswered(
        self,
        connection: sqlite3.Connection,
        rater: int,
        now: float,
        held: Sequence[int],
        count: int,
    ) -> list[int]:
        rows = connection.execute(
            "SELECT showings.id, is_repeat, expires_at FROM showings JOIN items"
            " ON items.id = showings.item WHERE rater = ? AND answer IS NULL AND is_open"
            " AND (expires_at > ? OR is_repeat) ORDER BY showings.id",
            (rater, now),
        ).fetchall()
        found = [row["id"] for row in rows if row["id"] not in set(held)][:count]
        connection.executemany(
            "UPDATE showings SET expires_at = ? WHERE id = ?",
            [(now + self.lease, showing) for showing in found],
        )
        return found

    def _show(
        self,
        connection: sqlite3.Connection,
        rater: int,
        now: float,
        item: int,
        is_swapped: bool,
        is_repeat: bool,
    ) -> int:
        connection.execute(
            "INSERT INTO showings (item, rater, is_swapped, is_repeat, shown_at, expires_at)"
            " VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET expires_at = excluded.expires_at",  # the order stays
            (item, rater, int(is_swapped), int(is_repeat), now, now + self.lease),
        )
        row = connection.execute(
            "SELECT id FROM showings WHERE item = ? AND rater = ? AND is_repeat = ?",
            (item, rater, int(is_repeat)),
        ).fetchone()
        return int(row["id"])

    def answer(self, rater: str, reply: Reply) -> Event:
        """Store a reply; one whose key is stored already is answered as it was then.

        A reply whose lease ran out is stored too: it counts if the item still lacks answers.

        :raises ConflictError: if the showing has another answer, or the key another content.
        :raises InputError: for a reply that does not fit its showing.
        """
        self.join(rater)
        with self._database.writing() as connection:
            stored = self._with_key(connection, reply.key)
            if stored is not None:
                if (stored.rater, *content_of(stored)) != (rater, *content_of(reply)):
                    raise ConflictError(f"the key {reply.key!r:.60} was used for another reply")
                return stored
            showing = self._showing_of(connection, rater, reply.showing)
            check_reply(reply, showing, self.settings.scale)
            if showing.answer is not None:
                raise ConflictError(f"showing {showing.id} is answered already: undo it first")
            event = self._store(connection, reply)
            return self._events(connection, "events.id = ?", (event,))[0]

    def _store(self, connection: sqlite3.Connection, reply: Reply) -> int:
        event = connection.execute(
            "INSERT INTO events (showing, key, choice, strength, score, rewrite, reason,"
            " facts, note, shown_at, answered_at, received_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*content_of(reply), reply.shown_at, reply.answered_at, self._clock()),
        ).lastrowid
        connection.execute(
            "UPDATE showings SET answer = ?, is_skipped = ? WHERE id = ?",
            (event, int(reply.choice == "skip"), reply.showing),
        )
        return int(event or 0)

    def add_answers(self, rows: Sequence[tuple[NewItem, str, Reply]]) -> int:
        """Add items with answers that were given elsewhere, all or none.

        :param rows: item, rater and reply; a is the item's first text, `showing` is not read.
        :returns: answers added; left out are those whose key is stored already, and those of a
            rater who has answered the item.
        :raises InputError: for an item or a reply that is none, naming its place.
        """
        for place, (item, _, _) in enumerate(rows):
            check_item(item, f"answer {place}")
        raters = {name: self.join(name) for _, name, _ in rows}
        added, now = 0, self._clock()
        with self._database.writing() as connection:
            for place, (item, rater, reply) in enumerate(rows):
                if self._with_key(connection, reply.key) is not None:
                    continue
                number = self._add(connection, item)
                place_of = self._show(connection, raters[rater], now, number, False, False)
                (showing,) = self._showings(connection, [place_of])
                if showing.answer is not None:
                    continue
                choice: Choice = reply.choice
                if showing.is_swapped and choice in ("a", "b"):
                    choice = "b" if choice == "a" else "a"
                reply = replace(reply, showing=showing.id, choice=choice)
                try:
                    check_reply(reply, showing, self.settings.scale)
                except InputError as error:
                    raise InputError(f"answer {place}: {error}") from None
                self._store(connection, reply)
                added += 1
        return added

    def undo(self, rater: str, key: str, answer: int | None = None) -> tuple[Event, Showing] | None:
        """Take an answer back: an event more, nothing less, and the showing is open again.

        :param key: makes it idempotent, as an answer's.
        :param answer: which of the rater's answers; None takes the latest that stands.
        :returns: the event and the showing; None if there is nothing to undo.
        :raises ConflictError: if that answer is undone already, or the key was used otherwise.
        """
        self.join(rater)
        check_text(key, "key", 100)
        with self._database.writing() as connection:
            stored = self._with_key(connection, key)
            if stored is not None:
                if (
                    stored.undoes is None
                    or stored.rater != rater
                    or answer
                    not in (
                        None,
                        stored.undoes,
                    )
                ):
                    raise ConflictError(f"the key {key!r:.60} was used for something else")
                return stored, self._showings(connection, [stored.showing])[0]
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
            now = self._clock()
            event = connection.execute(
                "INSERT INTO events (showing, key, note, shown_at, answered_at, received_at,"
                " undoes) VALUES (?, ?, '', ?, ?, ?, ?)",
                (row["id"], key, now, now, now, row["answer"]),
            ).lastrowid
            connection.execute(
                "UPDATE showings SET answer = NULL, is_skipped = 0, expires_at = ? WHERE id = ?",
                (now + self.lease, row["id"]),
            )
            undone = self._events(connection, "events.id = ?", (event,))[0]
            return undone, self._showings(connection, [row["id"]])[0]

    def history(self, rater: str, limit: int = 50) -> list[tuple[Event, Showing]]:
        """The latest standing answers of a rater, newest first."""
        with self._database.writing() as connection:
            events = self._events(
                connection,
                "raters.name = ? AND showings.answer = events.id ORDER BY events.id DESC LIMIT ?",
                (rater, limit),
            )
            showings = {
                showing.id: showing
                for showing in self._showings(connection, [event.showing for event in events])
            }
        return [(event, showings[event.showing]) for event in events]

    def progress(self, rater: str) -> Progress:
        """How far a rater is; hidden repeats count as any other showing."""
        number, now = self.join(rater), self._clock()
        done = self._database.rows(
            "SELECT count(*) AS n, count(CASE WHEN received_at > ? THEN 1 END) AS today"
            " FROM showings JOIN events ON events.id = answer WHERE rater = ?",
            (now - 86_400, number),
        )[0]
        left = self._database.rows(
            "SELECT count(*) AS n FROM items WHERE is_open AND NOT EXISTS (SELECT 1 FROM showings"
            " WHERE item = items.id AND rater = ?1 AND NOT is_repeat AND answer IS NOT NULL) AND"
            " (gold IS NOT NULL OR ?2 > (SELECT count(*) FROM showings WHERE item = items.id AND"
            " rater <> ?1 AND NOT is_repeat AND answer IS NOT NULL AND NOT is_skipped))",
            (number, self.settings.raters),
        )[0]
        return Progress(done["n"], left["n"], done["today"])

    # The log

    def events(self, since: int = 0, limit: int | None = None) -> list[Event]:
        """The lines of the log with ids above `since`, in order."""
        rows = self._database.rows(
            f"{EVENTS} WHERE events.id > ? ORDER BY events.id LIMIT ?", (since, limit_of(limit))
        )
        return [event_of(row) for row in rows]

    def add_refit(
        self,
        run: str,
        step: int,
        answers: Sequence[int],
        details: Mapping[str, Any] | None = None,
    ) -> int:
        """Note that a reward model was fitted to these answers; once per run and step.

        :returns: its id.
        :raises ConflictError: if another fit of that run and step is noted.
        """
        content = (json_text(list(answers)), json_text(dict(details or {})))
        with self._database.writing() as connection:
            row = connection.execute(
                "SELECT id, answers FROM refits WHERE run = ? AND step = ?", (run, step)
            ).fetchone()
            if row is not None:
                if row["answers"] != content[0]:
                    raise ConflictError(f"run {run!r:.60}, step {step}: has another refit")
                return int(row["id"])
            cursor = connection.execute(
                "INSERT INTO refits (run, step, answers, details, at) VALUES (?, ?, ?, ?, ?)",
                (run, step, *content, self._clock()),
            )
            return int(cursor.lastrowid or 0)

    def refits(self, run: str | None = None) -> list[Refit]:
        """The refits of a run, or of all, in order."""
        rows = self._database.rows(
            "SELECT * FROM refits WHERE ifnull(run = ?, 1) ORDER BY id", (run,)
        )
        return [
            Refit(
                row["id"],
                row["run"],
                row["step"],
                tuple(json.loads(row["answers"])),
                json.loads(row["details"]),
                row["at"],
            )
            for row in rows
        ]

    # Rows

    def _with_key(self, connection: sqlite3.Connection, key: str) -> Event | None:
        return next(iter(self._events(connection, "events.key = ?", (key,))), None)

    def _showing_of(self, connection: sqlite3.Connection, rater: str, showing: int) -> Showing:
        found = self._showings(connection, [showing])
        if not found or found[0].rater != rater:
            raise InputError(f"showing {showing} is none of this rater's: ask for the next one")
        return found[0]

    def _events(
        self, connection: sqlite3.Connection, condition: str, values: Sequence[Any]
    ) -> list[Event]:
        return [event_of(row) for row in connection.execute(f"{EVENTS} WHERE {condition}", values)]

    def _showings(self, connection: sqlite3.Connection, ids: Sequence[int]) -> list[Showing]:
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

    def _keep_settings(self, settings: Settings) -> None:
        values = {name: value for name, value in vars(settings).items() if name != "id"}
        values |= {"id": secrets.token_hex(8), "seed": settings.seed or random.getrandbits(31)}
        if self._database.rows("SELECT 1 FROM settings LIMIT 1"):
            return
        with self._database.writing() as connection:
            connection.executemany(
                "INSERT INTO settings VALUES (?, ?)",
                [(name, json_text(value)) for name, value in values.items()],
            )

    def _read_settings(self) -> Settings:
        rows = self._database.rows("SELECT name, value FROM settings")
        values = {row["name"]: json.loads(row["value"]) for row in rows}
        return Settings(**(values | {name: tuple(values[name]) for name in ("scale", "asks")}))
