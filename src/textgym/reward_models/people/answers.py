"""What a store of labels says about pairs of texts, read little by little while it grows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textgym.errors import InputError
from textgym.reward_models.learned.pairs import Pairs
from textgym.reward_models.people.client import Labels
from textgym.reward_models.people.records import HELD_OUT, Event, Item, counted

LABELS = {"first": 1.0, "second": 0.0, "tie": 0.5, "both_bad": 0.5}


@dataclass(frozen=True)
class Answered:
    """Answers as comparisons of texts.

    :param texts: whole texts, prompt and completion as one, each once.
    :param pairs: an answer each, as places in `texts`.
    """

    texts: list[str]
    pairs: Pairs


class AnswerLog:
    """The items and the log of a store, as far as they have been read.

    :param labels: the store; it is asked by `read` alone.
    """

    def __init__(self, labels: Labels) -> None:
        self.labels = labels
        self.items: dict[int, Item] = {}
        self.events: dict[int, Event] = {}
        self._raters, self._store = 1, ""

    def read(self) -> None:
        """Read what is new.

        :raises StorageError: if the store cannot be reached; what was read stays.
        :raises InputError: if it refuses, or is another store than before.
        """
        events = self.labels.events(max(self.events, default=0))
        items = self.labels.items(max(self.items, default=0))
        settings = self.labels.settings
        if self._store not in ("", settings.id):
            raise InputError("another store of labels than before stands in its place: put it back")
        self._store, self._raters = settings.id, settings.raters
        self.items |= {item.id: item for item in items}
        self.events |= {event.id: event for event in events}

    def counted(self) -> list[int]:
        """Ids of the answers about pairs that count now, in order; see `records.counted`.

        Those about pairs that are set aside are left out.
        """
        return [event.id for event in self._all() if self.items[event.item].query != HELD_OUT]

    def held_out(self) -> list[int]:
        """Ids of the answers about pairs that are set aside, in order."""
        return [event.id for event in self._all() if self.items[event.item].query == HELD_OUT]

    def _all(self) -> list[Event]:
        gold = [item.id for item in self.items.values() if item.gold is not None]
        found = counted(self.events.values(), self._raters, gold)
        return [event for event in found if self._is_usable(event)]

    def done(self) -> set[int]:
        """Ids of the items that have all the answers that they are for."""
        counts: dict[int, int] = {}
        for event in self._all():
            counts[event.item] = counts.get(event.item, 0) + 1
        return {item for item, count in counts.items() if count >= self._raters}

    def answered(self, ids: Sequence[int]) -> Answered:
        """These answers as comparisons, in this order.

        :raises InputError: for an answer that the store does not have.
        """
        places: dict[str, int] = {}
        rows = []
        for number in ids:
            event = self.events.get(number)
            if event is None or not self._is_usable(event):
                raise InputError(f"the store has no answer {number} about a pair: is it another?")
            item = self.items[event.item]
            both = [places.setdefault(item.prompt + t.text, len(places)) for t in item.texts]
            rows.append((*both, LABELS[str(event.winner)]))
        table = np.array(rows, np.float64).reshape(-1, 3)
        pairs = Pairs(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2])
        return Answered(list(places), pairs)

    def _is_usable(self, event: Event) -> bool:
        return event.winner is not None and event.item in self.items
