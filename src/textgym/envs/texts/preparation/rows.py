"""A row on its way through preparation, and what a step counts of the rows that pass it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from textgym.errors import InputError

SAMPLES, SAMPLE_CHARACTERS = 3, 160
NOTHING_LEFT = "nothing left"


@dataclass(slots=True)
class Row:
    """One text with what stood beside it.

    :param text: as the steps so far left it.
    :param number: of the row among all that were read, from 1; an augmented one has its source's.
    :param values: the other columns.
    :param part: of the split ("train", "validation", "test"), or "" before one.
    :param part_of: tells the part of any row, once there is a split.
    :param place: file and line, or row, for errors.
    :param origin: how an augmented row was made; None for one that was read.
    """

    text: str
    number: int
    values: dict[str, Any] = field(default_factory=dict)
    part: str = ""
    part_of: "Callable[[Row], str] | None" = None
    place: str = ""
    origin: dict[str, Any] | None = None


@dataclass
class StepCount:
    """What one step did in a pass.

    :param name: of the step.
    :param changed: texts that it changed.
    :param removed: rows that it removed.
    :param added: rows that it added.
    :param reasons: how many rows were removed, or fell to a part, by reason.
    :param samples: the first texts that it changed, removed or added: before and after; None for
        a removed text's after.
    """

    name: str
    changed: int = 0
    removed: int = 0
    added: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    samples: list[tuple[str, str | None]] = field(default_factory=list)

    def change(self, row: Row, text: Any) -> bool:
        """Give a row the text that a step made of it, and count.

        :return: whether there is still a text in it.
        :raises InputError: for what is no text.
        """
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InputError(f"rule {self.name!r}: expected a text or None, got {kind}")
        if text == row.text:
            return True
        if not text.strip():
            self.remove(row, NOTHING_LEFT)
            return False
        self.changed += 1
        self._sample(row.text, text)
        row.text = text
        return True

    def remove(self, row: Row, reason: str = "") -> None:
        """Count a removed row."""
        self.removed += 1
        if reason:
            self.reasons[reason] += 1
        self._sample(row.text, None)

    def add(self, row: Row, text: str, reason: str) -> None:
        """Count a row that was made of another."""
        self.added += 1
        self.reasons[reason] += 1
        self._sample(row.text, text)

    def to_json(self) -> dict[str, Any]:
        """Everything, in JSON's types; samples are cut."""
        return {
            "name": self.name,
            "changed": self.changed,
            "removed": self.removed,
            "added": self.added,
            "reasons": dict(sorted(self.reasons.items())),
            "samples": [{"before": before, "after": after} for before, after in self.samples],
        }

    def _sample(self, before: str, after: str | None) -> None:
        if len(self.samples) < SAMPLES:
            self.samples.append((_cut(before), after if after is None else _cut(after)))


def _cut(text: str) -> str:
    return text if len(text) <= SAMPLE_CHARACTERS else f"{text[: SAMPLE_CHARACTERS - 1]}…"
