"""Labelled rows of the user's own: prompt-completion pairs, ratings, preferences.

Formats: .jsonl and .csv, each also as .gz, in UTF-8, or rows given in Python.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textgym.envs.texts.records import (
    Record,
    given_record,
    given_rows,
    read_records,
    text_column,
    text_format,
)
from textgym.errors import InputError
from textgym.messages import common_start, is_messages, text_of

Rows = str | Path | Iterable[Any]  # a file, or rows given in Python


@dataclass(frozen=True)
class Pair:
    """One example for supervised fine-tuning."""

    prompt: str
    completion: str

    @property
    def texts(self) -> tuple[str, str]:
        """Both, as a tuple."""
        return self.prompt, self.completion


@dataclass(frozen=True)
class RatedCompletion:
    """A text with several people's ratings on one scale.

    :param prompt: what the text continues; "" if it stands alone.
    :param block: rows of the same block were rated by the same people, in the same order; None
        if it is not known who rated.
    """

    text: str
    ratings: tuple[float, ...]
    prompt: str = ""
    block: int | str | None = None


@dataclass(frozen=True)
class Preference:
    """Two completions of one prompt, of which somebody preferred the first (or neither)."""

    prompt: str
    chosen: str
    rejected: str
    is_tie: bool = False


@dataclass(frozen=True)
class JudgedSteps:
    """The steps of one completion, each judged good (1), bad (0) or between."""

    prompt: str
    steps: tuple[str, ...]
    labels: tuple[float, ...]


def read_pairs(
    path: Rows, *, prompt_column: str = "prompt", completion_column: str = "completion"
) -> Iterator[Pair]:
    """Prompt-completion pairs of a .jsonl or .csv file, streamed, or of rows.

    :param path: the file, or a list or dataset of mappings or of `Pair`.
    :raises InputError: with file and line; an empty prompt or completion; no row at all.
    """
    for record in table_rows(path, "pairs"):
        if isinstance(record, Pair):
            yield record
            continue
        if is_messages(record.values.get(prompt_column, record.values.get("messages"))):
            raise InputError(
                f"{record.place(path)}: expected texts, found chat messages: textgym.sft learns "
                "those with chat (--chat)"
            )
        prompt = filled_column(record, prompt_column, path)
        yield Pair(prompt, filled_column(record, completion_column, path))


def read_ratings(path: Rows, *, what: str = "ratings") -> Iterator[RatedCompletion | Preference]:
    """Human judgements of a .jsonl or .csv file, streamed, or of rows given in Python.

    All rows are of the first row's kind.

    Rated rows: `text`, `ratings` (a list of numbers; in .csv written as JSON), optionally `prompt`
    and `block`. Preference rows: `prompt`, `chosen`, `rejected`, optionally `tie`; as texts or, as
    TRL's conversational files have them, as chat messages (`textgym.messages.text_of`), where the
    prompt may stand in front of both completions instead.

    :param path: the file, or a list or dataset of mappings, of `RatedCompletion` or `Preference`.
    :param what: what errors call rows that are given in Python.
    :raises InputError: with file and line; no row at all.
    """
    parse: Callable[[Record, object], RatedCompletion | Preference] | None = None
    for record in table_rows(path, what):
        if isinstance(record, RatedCompletion | Preference):
            yield record
            continue
        if parse is None:
            parse = _rated if "ratings" in record.values else _preference
        yield parse(record, path)


def read_steps(path: Rows, *, what: str = "judged steps") -> Iterator[JudgedSteps]:
    """Judged steps of a .jsonl or .csv file, streamed, or of rows: TRL's stepwise supervision.

    Rows have `prompt`, `completions` (the steps, in order) and `labels` (true, false, or numbers
    from 0 to 1, one a step).

    :param path: the file, or a list or dataset of mappings or of `JudgedSteps`.
    :raises InputError: with file and line; no row at all.
    """
    for record in table_rows(path, what):
        yield record if isinstance(record, JudgedSteps) else _steps(record, path)


def table_rows(path: Rows, what: str) -> Iterator[Any]:
    """Records of a file; of rows given in Python also our own objects, as they are.

    :raises InputError: with file and line; no row at all.
    """
    is_empty = True
    for row in _file_table(path, what) if isinstance(path, str | Path) else _rows(path, what):
        is_empty = False
        yield row
    if is_empty:
        name = path if isinstance(path, str | Path) else f"the {type(path).__name__} given"
        raise InputError(f"{name}: expected {what}, found no row")


def _file_table(path: str | Path, what: str) -> Iterator[Record]:
    if text_format(path) == ".txt":
        raise InputError(f"{path}: expected {what} as .jsonl or .csv, got a .txt file")
    return read_records(path)


def _rows(source: object, what: str) -> Iterator[Any]:
    ours = (Pair, RatedCompletion, Preference, JudgedSteps)
    for index, row in enumerate(given_rows(source, what)):
        yield row if isinstance(row, ours) else given_record(row, index, source)


def filled_column(record: Record, column: str, path: object) -> str:
    """The text in a column of a row.

    :raises InputError: if there is none, or white space alone.
    """
    text = text_column(record, column, path)
    if not text.strip():
        raise InputError(f"{record.place(path)}: expected a text in {column!r}, found none")
    return text


def _rated(record: Record, path: object) -> RatedCompletion:
    where = record.place(path)
    values = record.values.get("ratings")
    if isinstance(values, str):  # a .csv field
        try:
            values = json.loads(values)
        except (ValueError, RecursionError):
            values = None
    if isinstance(values, tuple):
        values = list(values)
    if not isinstance(values, list) or not values or not all(map(_is_number, values)):
        raise InputError(f"{where}: expected finite numbers in 'ratings', like [1, -2, 3]")
    block = record.values.get("block")
    if not isinstance(block, int | str | None) or isinstance(block, bool):
        raise InputError(
            f"{where}: expected a number or a name in 'block', found {str(block)[:40]!r}"
        )
    prompt = text_column(record, "prompt", path) if record.values.get("prompt") else ""
    text = filled_column(record, "text", path)
    return RatedCompletion(text, tuple(map(float, values)), prompt, None if block == "" else block)


def _steps(record: Record, path: object) -> JudgedSteps:
    where = record.place(path)
    columns: dict[str, Any] = {}
    for column in ("completions", "labels"):
        value = record.values.get(column)
        if isinstance(value, str):  # a .csv field
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                value = None
        columns[column] = list(value) if isinstance(value, list | tuple) else []
    steps, labels = columns["completions"], columns["labels"]
    is_whole = bool(steps) and len(steps) == len(labels)
    if not is_whole or not all(isinstance(step, str) and step for step in steps):
        raise InputError(
            f"{where}: expected steps in 'completions' and as many in 'labels', like "
            '["2 + 2 = 4", "so 5"] and [true, false]'
        )
    if not all(
        isinstance(label, bool) or (_is_number(label) and 0 <= label <= 1) for label in labels
    ):
        raise InputError(f"{where}: expected true, false or numbers from 0 to 1 in 'labels'")
    return JudgedSteps(
        filled_column(record, "prompt", path), tuple(steps), tuple(map(float, labels))
    )


def _is_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < 1e9 and math.isfinite(value)


def _preference(record: Record, path: object) -> Preference:
    where = record.place(path)
    record = _without_messages(record, where)
    prompt, chosen, rejected = (
        filled_column(record, column, path) for column in ("prompt", "chosen", "rejected")
    )
    tie = record.values.get("tie")
    truth = {"true": True, "1": True, "false": False, "0": False, "": False, "none": False}
    is_tie = truth.get(str(tie).lower())
    if is_tie is None:
        raise InputError(f"{where}: expected true or false in 'tie', found {str(tie)[:40]!r}")
    if chosen == rejected and not is_tie:
        raise InputError(
            f"{where}: 'chosen' and 'rejected' are the same text: drop the pair, or give it "
            "tie=true for a reward model (DPO takes no ties)"
        )
    return Preference(prompt, chosen, rejected, is_tie)


def _without_messages(record: Record, where: str) -> Record:
    """The row with texts in the place of chat messages.

    :raises InputError: for messages whose content is no text, or texts and messages in one row.
    """
    columns = ("prompt", "chosen", "rejected")
    values = {name: record.values[name] for name in columns if name in record.values}
    if not any(map(is_messages, values.values())):
        return record
    sides = [values.get("chosen"), values.get("rejected")]
    if not all(map(is_messages, sides)):
        raise InputError(f"{where}: 'chosen' and 'rejected' must both be messages, or both texts")
    if not is_messages(values.get("prompt")):  # it stands in front of both
        one, other = values["chosen"], values["rejected"]
        start = common_start(one, other)
        if not start:
            raise InputError(f"{where}: expected the column 'prompt', or one start of both sides")
        values = {"prompt": one[:start], "chosen": one[start:], "rejected": other[start:]}
    try:
        texts = {name: text_of(value) for name, value in values.items()}
    except TypeError as error:
        raise InputError(f"{where}: {error}") from None
    return Record(record.line, {**record.values, **texts})
