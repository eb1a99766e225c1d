"""One step of preparation: a small object with one method over an iterator of rows.

A step is a frozen dataclass; its fields are its parameters, which a recipe holds. What it must
remember during a pass (texts seen) lives in `apply`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from textgym.checks import Range
from textgym.envs.texts.preparation.rows import Row, StepCount
from textgym.errors import InputError

TextFunction = Callable[[str], str | None]


class Step(ABC):
    """Rows in, rows out.

    `key` is its name in recipes and on the command line, `name` how a report calls it.
    """

    key: ClassVar[str] = ""

    @property
    def name(self) -> str:
        """In the report."""
        return self.key.replace("_", " ")

    @abstractmethod
    def apply(self, rows: Iterator[Row], count: StepCount) -> Iterator[Row]:
        """The rows that go on, as they are asked for; what was done is counted.

        :raises InputError: for a row that the step cannot take, or a library that is missing.
        """

    def to_json(self) -> dict[str, Any]:
        """The step's key and parameters, as a recipe holds them.

        :raises InputError: for one that no recipe can hold.
        """
        if not self.key:
            raise InputError(f"the step {self.name!r} is a function: a recipe cannot hold it")
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return {"step": self.key} | {
            name: str(value) if isinstance(value, Path) else value for name, value in values.items()
        }

    def files(self) -> Iterable[Path]:
        """The files that it reads beside the rows."""
        values = (getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]
        return [value for value in values if isinstance(value, Path)]

    def _require(self, name: str, low: float, high: float, *, is_whole: bool = False) -> None:
        """Raises unless a parameter is a number of a range, ends included, or None.

        :raises InputError: naming step and parameter.
        """
        value, allowed = getattr(self, name), Range(is_whole, low, high, "[]", "")
        if value is not None and not allowed.holds(value):
            raise InputError(f"{self.key}: {name} must be {allowed}, got {value!r:.60}")

    def _require_one_of(self, name: str, known: Iterable[str]) -> None:
        """Raises unless a parameter is one of these texts.

        :raises InputError: naming step and parameter.
        """
        value, names = getattr(self, name), list(known)
        if value not in names:
            listed = ", ".join(map(repr, names))
            raise InputError(f"{self.key}: {name} must be one of {listed}, got {value!r:.60}")


class TextStep(Step):
    """A step that looks at one text at a time."""

    @abstractmethod
    def start(self) -> TextFunction:
        """Called once a pass; gives the function from a text to the new one, None to remove it."""

    def apply(self, rows: Iterator[Row], count: StepCount) -> Iterator[Row]:
        """See `Step.apply`."""
        function = self.start()
        for row in rows:
            text = function(row.text)
            if text is None:
                count.remove(row)
            elif count.change(row, text):
                yield row


@dataclass(frozen=True)
class Rule(TextStep):
    """A step of one's own, made of a function.

    :param label: stands in the report.
    :param starter: called once a pass, see `TextStep.start`.
    """

    label: str
    starter: Callable[[], TextFunction]

    @property
    def name(self) -> str:
        """In the report."""
        return self.label

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        return self.starter()


def rule(name: str, function: TextFunction) -> Rule:
    """A step from a function of one text that remembers nothing; None removes the text.

    >>> rule("no shouting", str.lower).start()("STOP")
    'stop'
    """
    return Rule(name, lambda: function)
