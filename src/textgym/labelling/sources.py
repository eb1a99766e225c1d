"""What people are asked about: items from a file, from a run's samples, from a study's texts."""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

from textgym.envs.texts.labelled_rows import Preference, read_ratings
from textgym.envs.texts.records import Record, read_records, text_column, text_format
from textgym.errors import InputError
from textgym.json_lines import read_rows
from textgym.labelling.exchange import read_judgements
from textgym.paths import expand
from textgym.reward_models.people.preference_rows import Score
from textgym.reward_models.people.records import Kind, NewItem, Text
from textgym.run_files import CONFIG, SAMPLES
from textgym.storage import json_text


def read_items(
    source: str | Path, *, kind: Kind = "pair", cells: Sequence[str] = (), lang: str = ""
) -> list[NewItem]:
    """Items from a file or a directory; each has a key, so that reading twice adds nothing.

    A file (.jsonl, .csv) has the columns `prompt`, and `chosen` and `rejected` (what somebody said
    of them is not told), or `a` and `b` (optionally `gold`: a, b, tie or both_bad), or `text` or
    `completion`; texts of one prompt make pairs. Of a run, samples of one prompt at its first and
    last step make pairs; of a study, held-out texts of two cells and the same seed.

    :param kind: "pair", or "rating" or "edit", which ask about one text at a time.
    :param cells: labels of a study's two cells.
    :raises InputError: naming file and line, or for a directory that is no run or study.
    """
    path = expand(source)
    if path.suffix == ".json":
        return list(_of_judgements(path, kind, lang))
    if path.is_dir():
        if (path / CONFIG).is_file() and not cells:
            texts = _run_texts(path)
        else:
            return list(_of_study(path, kind, cells, lang))
    else:
        rows = list(read_records(path)) if text_format(path) else []
        columns = set(rows[0].values) if rows else set()
        if {"chosen", "rejected"} <= columns:
            return list(_of_preferences(path, kind, lang))
        if {"a", "b"} <= columns:
            return list(_of_sides(rows, path, kind, lang))
        texts = _file_texts(rows, path)
    items = list(_of_texts(texts, kind, lang))
    if not items:
        raise InputError(f"{path}: expected two different texts of a prompt to compare, found none")
    return items


def _of_judgements(path: Path, kind: Kind, lang: str) -> Iterator[NewItem]:
    """Every pair or text of another tool's export once."""
    seen = set()
    for said in read_judgements(path):
        texts = (said.text,) if isinstance(said, Score) else (said.first, said.second)
        if (said.prompt, *texts) in seen:
            continue
        seen.add((said.prompt, *texts))
        if kind == "pair" and isinstance(said, Score):
            raise InputError(f"{path}: holds single texts: ask about them with kind=rating or edit")
        if isinstance(said, Score):
            yield _item(said.prompt, (Text(said.text),), kind, lang)
        else:
            yield from _items(said.prompt, Text(said.first), Text(said.second), kind, lang)


def _of_preferences(path: Path, kind: Kind, lang: str) -> Iterator[NewItem]:
    for row in read_ratings(path):
        assert isinstance(row, Preference)
        yield from _items(row.prompt, Text(row.chosen), Text(row.rejected), kind, lang)


def _of_sides(rows: Sequence[Record], path: Path, kind: Kind, lang: str) -> Iterator[NewItem]:
    known = {"a": "first", "b": "second", "tie": "tie", "both_bad": "both_bad", "": None}
    for row in rows:
        gold = row.values.get("gold") or ""
        if gold not in known:
            raise InputError(
                f"{row.place(path)}: gold must be a, b, tie or both_bad, got {gold!r:.40}"
            )
        prompt, a, b = (text_column(row, column, path) for column in ("prompt", "a", "b"))
        yield from _items(prompt, Text(a), Text(b), kind, lang, known[gold])


def _file_texts(rows: Sequence[Record], path: Path) -> list[tuple[str, Text]]:
    found = []
    for row in rows:
        prompt = text_column(row, "prompt", path) if row.values.get("prompt") else ""
        column = "completion" if "completion" in row.values else "text"
        text = text_column(row, column, path)
        rest = {k: v for k, v in row.values.items() if k not in ("prompt", column)}
        found.append((prompt, Text(text, rest)))
    if not found:
        raise InputError(f"{path}: expected texts, found no row")
    return found


def _run_texts(run: Path) -> list[tuple[str, Text]]:
    rows = [row for row in read_rows(run / SAMPLES) if isinstance(row.get("step"), int)]
    if not rows:
        raise InputError(f"{run}: holds no sample texts yet; train on, or take another run")
    ends = {min(row["step"] for row in rows), max(row["step"] for row in rows)}
    return [
        (
            str(row["prompt"]),
            Text(
                str(row["completion"]),
                {"run": run.name, "step": row["step"]},
                row.get("finish_reason") == "length",
            ),
        )
        for row in rows
        if row["step"] in ends
    ]


def _of_study(path: Path, kind: Kind, cells: Sequence[str], lang: str) -> Iterator[NewItem]:
    from textgym.agents.comparison.reading import read_study

    study = read_study(path)
    labels = [cell.label for cell in study.cells]
    chosen = list(cells) or labels[:2]
    unknown = [cell for cell in chosen if cell not in labels]
    if unknown or len(chosen) != 2:
        raise InputError(
            f"{path}: cells must be two of: {'; '.join(labels)} (got {'; '.join(chosen) or 'none'})"
        )
    pairs = 0
    for one in study.runs_of(chosen[0]):
        for other in study.runs_of(chosen[1]):
            if one.seed != other.seed or one.record is None or other.record is None:
                continue
            for first, second in zip(_last_texts(one), _last_texts(other), strict=False):
                if first.prompt == second.prompt and first.completion != second.completion:
                    prompt = str(study.prompts[first.prompt]["prompt"])
                    yield from _items(
                        prompt, _held_out(one, first), _held_out(other, second), kind, lang
                    )
                    pairs += 1
    if not pairs:
        raise InputError(f"{path}: the two cells have no different held-out texts of one seed")


def _last_texts(run: Any) -> Any:
    return run.record.texts[run.record.steps[-1]]


def _held_out(run: Any, text: Any) -> Text:
    source = {"cell": run.cell, "run": run.name, "seed": run.seed, "step": text.step}
    return Text(text.completion, source, text.finish_reason == "length")


def _of_texts(texts: Iterable[tuple[str, Text]], kind: Kind, lang: str) -> Iterator[NewItem]:
    """One item a text, or for pairs one for every two different neighbours of a prompt."""
    by_prompt: dict[str, list[Text]] = {}
    for prompt, text in texts:
        by_prompt.setdefault(prompt, []).append(text)
    for prompt, found in by_prompt.items():
        if kind != "pair":
            for text in found:
                yield _item(prompt, (text,), kind, lang)
            continue
        both = combinations(found, 2) if len(found) <= 3 else pairwise(found)
        for one, other in both:
            yield from _items(prompt, one, other, kind, lang)


def _items(
    prompt: str, one: Text, other: Text, kind: Kind, lang: str, gold: Any = None
) -> Iterator[NewItem]:
    if kind == "pair":
        if one.text != other.text:
            yield _item(prompt, (one, other), kind, lang, gold)
        return
    for text in (one, other):
        yield _item(prompt, (text,), kind, lang)


def _item(prompt: str, texts: tuple[Text, ...], kind: Kind, lang: str, gold: Any = None) -> NewItem:
    content = json_text([kind, prompt, *[[text.text, dict(text.source)] for text in texts]])
    key = sha256(content.encode()).hexdigest()
    return NewItem(prompt, texts, kind, key, gold=gold, lang=lang)
