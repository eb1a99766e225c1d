"""Chat messages as texts: TRL's files and trainers may hold either."""

from collections.abc import Mapping, Sequence
from typing import Any

Messages = list[dict[str, str]]


def is_messages(value: Any) -> bool:
    """Whether a value is a list of messages, `{"role": ..., "content": ...}`."""
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return (
        is_list
        and len(value) > 0
        and all(
            isinstance(item, Mapping) and "role" in item and "content" in item for item in value
        )
    )


def message(role: str, text: str) -> Messages:
    """A text as a list of one message."""
    return [{"role": role, "content": text}]


def text_of(value: Any) -> str:
    """A text as it is; of messages the content of the only one, or all with their roles.

    Several become lines like `user: Hello`, so that it stays clear who spoke.

    :raises TypeError: for a content that is no text, such as a picture, and for other values.
    """
    if isinstance(value, str):
        return value
    if not is_messages(value):
        raise TypeError(f"expected a text or messages, got {type(value).__name__}")
    for item in value:
        if not isinstance(item["content"], str):
            kind = type(item["content"]).__name__
            raise TypeError(f"expected a text as the content of a message, got {kind}")
    if len(value) == 1:
        return str(value[0]["content"])
    return "\n".join(f"{item['role']}: {item['content']}" for item in value)


def common_start(one: Sequence[Any], other: Sequence[Any]) -> int:
    """How many messages two conversations have in common from the start, their last ones aside.

    The prompt of a preference whose conversations are given whole, as TRL finds it.
    """
    most = min(len(one), len(other)) - 1
    same = 0
    while same < most and one[same] == other[same]:
        same += 1
    return same
