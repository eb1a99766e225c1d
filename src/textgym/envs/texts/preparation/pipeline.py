"""A list of steps that rows pass one at a time, and the report of what each step did.

    pipeline = TextPipeline([Repair(), Normalize("NFKC"), Segment(), StopWords("en+zh")])
    texts = pipeline.texts(read_texts("corpus.txt"))
    ...                       # iterate: texts are prepared one at a time, as they pass
    print(texts.report)

Steps run in the order given; those that keep nothing need no memory that grows.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from textgym.envs.texts.preparation.augmentation import Augment
from textgym.envs.texts.preparation.characters import (
    ControlCharacters,
    NormalForm,
    Normalize,
    Whitespace,
)
from textgym.envs.texts.preparation.duplicates import Duplicates
from textgym.envs.texts.preparation.filters import Length
from textgym.envs.texts.preparation.rows import Row, StepCount
from textgym.envs.texts.preparation.split import Split
from textgym.envs.texts.preparation.step import Step
from textgym.envs.texts.preparation.words import Segment, StopWords
from textgym.errors import InputError

T = TypeVar("T", str, Row)


def default_rules(
    *,
    normal_form: NormalForm = "NFC",
    min_characters: int = 1,
    max_characters: int | None = 10_000,
    keep_lines: bool = False,
) -> list[Step]:
    """Control characters, Unicode, white space, length, duplicates: in this order.

    :raises InputError: `min_characters` is below 1 or over `max_characters`.
    """
    most = min_characters if max_characters is None else max_characters
    if not 1 <= min_characters <= most:
        raise InputError(
            "expected 1 <= min_characters <= max_characters,"
            f" got {min_characters} and {max_characters}"
        )
    return [
        ControlCharacters(),  # first: what it leaves side by side may combine
        Normalize(normal_form),
        Whitespace(keep_lines),
        Length(min_characters, max_characters),
        Duplicates(),
    ]


@dataclass
class PreparationReport:
    """What one pass did: `read` rows came, `kept` went on; `steps` in order of application.

    :param blank: rows without a text, which no step saw.
    :param parts: rows that went on, by part of the split.
    """

    read: int = 0
    kept: int = 0
    blank: int = 0
    steps: list[StepCount] = field(default_factory=list)
    parts: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """A table for the terminal, one line a step."""
        adds = any(count.added for count in self.steps)
        names = [*(count.name for count in self.steps), "texts kept"]
        width = max(map(len, names))
        lines = [f"{'rule':<{width}}  {'changed':>10}  {'removed':>10}"]
        lines[0] += f"  {'added':>10}" if adds else ""
        for c in self.steps:
            line = f"{c.name:<{width}}  {c.changed:>10,}  {c.removed:>10,}"
            lines.append(line + (f"  {c.added:>10,}" if adds else ""))
            if c.reasons:
                reasons = ", ".join(f"{name} {n:,}" for name, n in c.reasons.most_common(8))
                lines[-1] += f"  ({reasons})"
        lines.append(f"{'texts kept':<{width}}  {self.kept:>10,} of {self.read:,}")
        added = sum(count.added for count in self.steps)
        lines[-1] += f" and {added:,} added" if added else ""
        if self.blank:
            lines[-1] += f", and {self.blank:,} blank ones left out"
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything, in JSON's types."""
        figures = {"read": self.read, "blank": self.blank, "kept": self.kept, "parts": self.parts}
        return {**figures, "steps": [count.to_json() for count in self.steps]}


class Prepared(Generic[T]):
    """What a pipeline makes of rows, computed as it is asked for; may be iterated again.

    `report` describes the last pass, also while it runs.
    """

    def __init__(self, source: Iterable[Any], steps: Sequence[Step], as_rows: bool) -> None:
        self._source = source
        self._steps = tuple(steps)
        self._as_rows = as_rows
        self._is_spent = False
        self.report = PreparationReport()

    def __iter__(self) -> Iterator[T]:
        """One pass.

        :raises InputError: a second pass over an iterator, or a step that gives no text.
        """
        iterator = iter(self._source)
        if self._is_spent and iterator is self._source:
            raise InputError("these texts were an iterator and have been read; give a list or file")
        self._is_spent = True
        self.report = report = PreparationReport(steps=[StepCount(s.name) for s in self._steps])
        rows = _read(iterator, report)
        for step, count in zip(self._steps, report.steps, strict=True):
            rows = step.apply(rows, count)
        return self._pass(rows, report)

    def _pass(self, rows: Iterator[Row], report: PreparationReport) -> Iterator[Any]:
        for row in rows:
            report.kept += 1
            if row.part:
                report.parts[row.part] = report.parts.get(row.part, 0) + 1
            yield row if self._as_rows else row.text


class TextPipeline:
    """Steps that are applied to every row, first to last.

    :param steps: any of `textgym.envs.texts.preparation`, or of one's own.
    :raises InputError: for an order that would undo what a step promises.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)
        for step in self.steps:
            if not isinstance(step, Step):
                raise InputError(f"expected steps of preparation, got {type(step).__name__}")
        self._check_order()

    def rows(self, source: Iterable[Any]) -> "Prepared[Row]":
        """The rows that are left, each prepared when it is asked for.

        :param source: texts, mappings with the text in "text", or `Row`s.
        """
        return Prepared(source, self.steps, as_rows=True)

    def texts(self, source: Iterable[Any]) -> "Prepared[str]":
        """Their texts alone, of every part; see `rows`."""
        return Prepared(source, self.steps, as_rows=False)

    def _check_order(self) -> None:
        """Raises where a step would undo what one before it promises.

        :raises InputError: naming both.
        """
        kinds = [type(step) for step in self.steps]
        for kind in (Split, Augment):
            if kinds.count(kind) > 1:
                raise InputError(f"the step {kind.key!r} is given twice: leave one out")
        if Split in kinds:
            for step in self.steps[kinds.index(Split) + 1 :]:
                if not isinstance(step, Augment):
                    raise InputError(
                        f"the step {step.name!r} comes behind 'split': only 'augment' may, since "
                        "texts that a later step makes equal would be in two parts"
                    )
            if Augment in kinds and kinds.index(Augment) < kinds.index(Split):
                raise InputError(
                    "the step 'augment' comes before 'split': put it behind, so that no text made "
                    "of a training text is held out"
                )
        if Segment in kinds and StopWords in kinds[: kinds.index(Segment)]:
            raise InputError(
                "the step 'stop_words' comes before 'segment': put it behind, where there are words"
            )


class Cleaner(TextPipeline):
    """The cleaning that `pretrain` does: a pipeline with `default_rules()` unless others are given.

    :param rules: steps, applied first to last.
    """

    def __init__(self, rules: Sequence[Step] | None = None) -> None:
        super().__init__(default_rules() if rules is None else rules)

    def clean(self, texts: Iterable[str]) -> "Prepared[str]":
        """The texts that are left, each cleaned when it is asked for."""
        return self.texts(texts)


def _read(source: Iterator[Any], report: PreparationReport) -> Iterator[Row]:
    """What was given as rows, numbered and counted."""
    for number, given in enumerate(source, 1):
        row = _row(given, number)
        if not row.text.strip():
            report.blank += 1
            continue
        report.read += 1
        yield row


def _row(given: Any, number: int) -> Row:
    place = f"row {number}"
    if isinstance(given, Row):
        return replace(given)  # steps write into it
    if isinstance(given, str):
        return Row(given, number, place=place)
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise InputError(f"{place}: expected a text or a mapping with 'text', got {given!r:.60}")
    values = {name: value for name, value in given.items() if name != "text"}
    return Row(given["text"], number, values, place=place)
