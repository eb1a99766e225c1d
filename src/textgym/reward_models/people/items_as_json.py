"""Items as the label server's JSON, and back."""

import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from textgym.reward_models.people.records import Item, NewItem, Text
from textgym.storage import json_text

PAGE = 1000  # rows a request
SENT_BYTES = 2**21  # of items a request; the server takes 16 MiB


def item_body(item: NewItem) -> dict[str, Any]:
    """What is sent of an item, with a key, so that it is added once however often it is sent."""
    item = replace(item, key=item.key or secrets.token_hex(16))
    names = ("prompt", "kind", "key", "priority", "gold", "query", "lang")
    texts = [
        {
            "text": text.text,
            "source": json.loads(json_text(dict(text.source))),
            "is_cut": text.is_cut,
        }
        for text in item.texts
    ]
    return {name: getattr(item, name) for name in names} | {"texts": texts}


def item_of_json(row: dict[str, Any]) -> Item:
    """An item as the server says it."""
    return Item(**(row | {"texts": tuple(Text(**text) for text in row["texts"])}))


def parts(bodies: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The bodies in parts that a request holds."""
    part: list[dict[str, Any]] = []
    size = 0
    for body in bodies:
        length = len(json.dumps(body))
        if part and (size + length > SENT_BYTES or len(part) == PAGE):
            yield part
            part, size = [], 0
        part.append(body)
        size += length
    if part:
        yield part
