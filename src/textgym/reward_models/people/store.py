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
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.people.database import Database
from textgym.reward_models.people.log import append_reply, append_undo, events_where, with_key
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
from textgym.reward_models.people.refits import note_refit, refit_of
from textgym.reward_models.people.rows import (
    DONE,
    EVENTS,
    ITEMS,
    LEFT,
    add_item,
    content_of,
    event_of,
    item_of,
    limit_of,
)
from textgym.reward_models.people.showings import own_showing, show, showings_of, unanswered
from textgym.reward_models.people.validation import (
    ConflictError,
    check_item,
    check_reply,
    check_text,
    checked,
)
from textgym.storage import json_text

__all__ = ["LEASE", "ConflictError", "LabelStore"]

LEASE = 600.0  # seconds


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
            return [add_item(connection, item, self._clock()) for item in items]

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
            found = unanswered(connection, number, held, count, now, self.lease)
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
                found.append(show(connection, number, picked, now, self.lease))
            return showings_of(connection, found)

    def answer(self, rater: str, reply: Reply) -> Event:
        """Store a reply; one whose key is stored already is answered as it was then.

        A reply whose lease ran out is stored too: it counts if the item still lacks answers.

        :raises ConflictError: if the showing has another answer, or the key another content.
        :raises InputError: for a reply that does not fit its showing.
        """
        self.join(rater)
        with self._database.writing() as connection:
            stored = with_key(connection, reply.key)
            if stored is not None:
                if (stored.rater, *content_of(stored)) != (rater, *content_of(reply)):
                    raise ConflictError(f"the key {reply.key!r:.60} was used for another reply")
                return stored
            showing = own_showing(connection, rater, reply.showing)
            check_reply(reply, showing, self.settings.scale)
            if showing.answer is not None:
                raise ConflictError(f"showing {showing.id} is answered already: undo it first")
            event = append_reply(connection, reply, self._clock())
            return events_where(connection, "events.id = ?", (event,))[0]

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
                if with_key(connection, reply.key) is not None:
                    continue
                number = add_item(connection, item, now)
                unasked = (number, False, False)
                place_of = show(connection, raters[rater], unasked, now, self.lease)
                (showing,) = showings_of(connection, [place_of])
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
                append_reply(connection, reply, self._clock())
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
            now = self._clock()
            event = append_undo(connection, rater, key, answer, now=now, lease=self.lease)
            if event is None:
                return None
            return event, showings_of(connection, [event.showing])[0]

    def history(self, rater: str, limit: int = 50) -> list[tuple[Event, Showing]]:
        """The latest standing answers of a rater, newest first."""
        with self._database.writing() as connection:
            events = events_where(
                connection,
                "raters.name = ? AND showings.answer = events.id ORDER BY events.id DESC LIMIT ?",
                (rater, limit),
            )
            showings = {
                showing.id: showing
                for showing in showings_of(connection, [event.showing for event in events])
            }
        return [(event, showings[event.showing]) for event in events]

    def progress(self, rater: str) -> Progress:
        """How far a rater is; hidden repeats count as any other showing."""
        number, now = self.join(rater), self._clock()
        (done,) = self._database.rows(DONE, (now - 86_400, number))
        (left,) = self._database.rows(LEFT, (number, self.settings.raters))
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
        with self._database.writing() as connection:
            return note_refit(connection, run, step, answers, details or {}, self._clock())

    def refits(self, run: str | None = None) -> list[Refit]:
        """The refits of a run, or of all, in order."""
        rows = self._database.rows(
            "SELECT * FROM refits WHERE ifnull(run = ?, 1) ORDER BY id", (run,)
        )
        return [refit_of(row) for row in rows]

    # Settings

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
