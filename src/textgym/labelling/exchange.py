"""Files of judgements: a store written out for TRL and for us, and other tools' exports read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from textgym.envs.texts.labelled_rows import read_ratings
from textgym.envs.texts.records import read_lines, read_records
from textgym.errors import InputError
from textgym.paths import expand
from textgym.reward_models.people.other_tools import argilla_record, label_studio_task
from textgym.reward_models.people.preference_rows import (
    Judgement,
    Score,
    count_winners,
    judgements,
    judgements_of_rows,
    preference_rows,
    rating_rows,
)
from textgym.reward_models.people.records import Event, Item, Settings
from textgym.storage import json_text, write_text_atomically

TOOLS = ("argilla", "label-studio", "rows")


class Labels(Protocol):
    """What is written out: an open store, or a client of a server."""

    settings: Settings

    def items(self) -> list[Item]:
        """What people were asked."""

    def events(self) -> list[Event]:
        """What they said."""


def write_labels(
    labels: Labels, path: str | Path, *, chat: bool = False, ties: bool = True
) -> dict[str, int]:
    """Write what people said as .jsonl: preferences, or ratings if there are no choices.

    Each line has `prompt`, `chosen`, `rejected` and `tie`, or `prompt`, `text` and `ratings` (see
    `people.preference_rows`). A file that is there already is replaced when the new one is whole.

    :param chat: preferences as chat messages.
    :param ties: write those too.
    :return: how many choices of each kind there are, how many ratings, and lines written.
    :raises InputError: where nobody has said anything yet, or a path that does not end in .jsonl.
    :raises StorageError: if it cannot be written.
    """
    path = expand(path)
    if path.suffix != ".jsonl":
        raise InputError(f"{path}: labels are written as .jsonl; give it that ending")
    found = judgements(labels.items(), labels.events(), raters=labels.settings.raters)
    counts = dict(count_winners(found))
    rows = list(preference_rows(found, chat=chat, ties=ties))
    if not rows:
        rows = list(rating_rows(found))
    if not rows:
        raise InputError(f"{path}: nothing to write, as nobody has said anything yet")
    write_text_atomically(path, "".join(json_text(row) + "\n" for row in rows))
    return {**counts, "lines": len(rows)}


def read_judgements(
    path: str | Path,
    *,
    tool: str | None = None,
    question: str | None = None,
    prompt: str | None = None,
    texts: Sequence[str] | None = None,
) -> list[Judgement | Score]:
    """What people said, out of a file of Argilla, Label Studio, TRL or ours.

    :param path: .json (a list) or .jsonl; rows of TRL's form and ours also .csv and .gz.
    :param tool: "argilla", "label-studio" or "rows" (TRL's form and ours); None: by its first row.
    :param question, prompt, texts: names in an export, where they are not clear by themselves: of
        what was asked, and of the fields of the prompt and of the texts in order.
    :raises InputError: naming file and line, or row; for a file in which nobody said anything.
    """
    path = expand(path)
    if tool is not None and tool not in TOOLS:
        raise InputError(f"tool must be among {', '.join(TOOLS)}, got {tool!r:.40}")
    records = list(_records(path))
    if not records:
        raise InputError(f"{path}: expected judgements, found no row")
    tool = tool or _tool_of(records[0][1])
    if tool == "rows":
        source = [row for _, row in records] if path.suffix == ".json" else path
        raters = [str(row.get("rater") or "") for _, row in records]
        return judgements_of_rows(list(read_ratings(source)), raters)
    read = argilla_record if tool == "argilla" else label_studio_task
    found: list[Judgement | Score] = []
    for where, record in records:
        found += read(record, where, question=question, prompt=prompt, texts=texts)
    if not found:
        raise InputError(f"{path}: {len(records)} records, and nobody has said anything in them")
    return found


def _tool_of(row: Mapping[str, Any]) -> str:
    if ("annotations" in row and "data" in row) or "annotation_id" in row:
        return "label-studio"
    if "fields" in row or any(name.endswith(".responses") for name in row):
        return "argilla"
    return "rows"


def _records(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row and where it stands."""
    if path.suffix != ".json":
        for record in read_records(path):
            yield record.place(path), record.values
        return
    text = "\n".join(line for _, line in read_lines(path))
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error})") from None
    if not isinstance(rows, list):
        raise InputError(f"{path}: expected a list of records, found {type(rows).__name__}")
    for place, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(f"{path}, record {place}: expected an object, got {row!r:.40}")
        yield f"{path}, record {place}", row
