"""Conversations of the user's own, to learn their answers: rows with chat messages.

Formats: as `textgym.envs.texts.labelled_rows`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from textgym.envs.texts.labelled_rows import Pair, Rows, filled_column, table_rows
from textgym.envs.texts.records import Record
from textgym.errors import InputError
from textgym.messages import Messages, text_of
from textgym.tokenizer_context import clean_unicode

_EXPECTED = '[{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]'


@dataclass(frozen=True)
class Conversation:
    """Messages with roles, of which some are answers to learn.

    :param answers: the places in `messages` of those that are learned; the last one is.
    :param place: where the row stands, for errors.
    """

    messages: Messages
    answers: tuple[int, ...]
    place: str

    @property
    def texts(self) -> tuple[str, str]:
        """What stands before the last answer, and that, as texts."""
        return text_of(self.messages[:-1]), self.messages[-1]["content"]


def read_conversations(path: Rows, *, what: str = "conversations") -> Iterator[Conversation]:
    """Conversations of a .jsonl or .csv file, streamed, or of rows given in Python.

    A row has `messages`, a list of `{"role": ..., "content": ...}` (in .csv as JSON), of which
    every answer is learned; or `prompt` and `completion`, as texts or as messages, as TRL's trainer
    for fine-tuning takes them, of which those of the completion are.

    :param path: the file, or a list or dataset of mappings or of `Pair`.
    :param what: what errors call rows that are given in Python.
    :raises InputError: with file and line; an empty message; one that holds more than a role and a
        text; a conversation that does not end with an answer or has nothing before one; no row at
        all.
    """
    for index, record in enumerate(table_rows(path, what)):
        if isinstance(record, Pair):
            record = Record(index, vars(record))
        yield _conversation(record, path)


def _conversation(record: Record, path: object) -> Conversation:
    where = record.place(path)
    if record.values.get("messages", "") not in (None, ""):
        messages, learned = _messages(record, "messages", path), 0
    else:
        asked = _messages(record, "prompt", path, role="user")
        messages = asked + _messages(record, "completion", path, role="assistant")
        learned = len(asked)
    if messages[-1]["role"] != "assistant":
        raise InputError(
            f"{where}: the conversation ends with {messages[-1]['role']!r:.40}, expected an answer "
            "of the 'assistant' to learn: add it, or drop the row"
        )
    answers = [i for i, m in enumerate(messages) if i >= learned and m["role"] == "assistant"]
    if answers[0] == 0:
        raise InputError(f"{where}: begins with an answer, expected a message of the 'user' first")
    return Conversation(messages, tuple(answers), where)


def _messages(record: Record, column: str, path: object, *, role: str = "") -> Messages:
    """The messages in a column.

    :param role: who says a text that is no messages; "": such a text must be JSON.
    """
    where, value = record.place(path), record.values.get(column)
    if role and (isinstance(value, str) or value is None):
        return [{"role": role, "content": filled_column(record, column, path)}]
    if isinstance(value, str):  # a .csv field
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = None
    if not isinstance(value, list | tuple) or not value:
        raise InputError(f"{where}: expected messages in {column!r}, like {_EXPECTED}")
    return [_message(item, number, f"{where}: {column!r}") for number, item in enumerate(value, 1)]


def _message(item: Any, number: int, where: str) -> dict[str, str]:
    """One message, checked."""
    where = f"{where}, message {number}"
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: expected a role and a content, got {type(item).__name__}")
    for key in ("role", "content"):
        value = item.get(key)
        if not isinstance(value, str) or not value.strip():
            raise InputError(f"{where}: expected a text in {key!r}, found {value!r:.40}")
        try:
            clean_unicode(value)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    more = [key for key, value in item.items() if key not in ("role", "content") and value]
    if more:
        raise InputError(
            f"{where}: holds {str(more[0])!r:.40} beside role and content, which is not learned: "
            "leave it out"
        )
    return {"role": item["role"], "content": item["content"]}
