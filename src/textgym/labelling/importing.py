"""Judgements from a file as answers in a store: imported twice, they are there once."""

from collections.abc import Sequence
from hashlib import sha256

from textgym.reward_models.people.preference_rows import Judgement, Score
from textgym.reward_models.people.records import Choice, NewItem, Reply, Text
from textgym.reward_models.people.store import LabelStore
from textgym.storage import json_text

SIDES: dict[str, Choice] = {"first": "a", "second": "b", "tie": "tie", "both_bad": "both_bad"}
UNKNOWN = "imported"  # the rater of answers that name none


def import_judgements(
    store: LabelStore, found: Sequence[Judgement | Score], *, lang: str = ""
) -> int:
    """Add what people said elsewhere, as `read_judgements` reads it.

    Several answers of nobody in particular to one item are those of `imported`, `imported 2`, …

    :param lang: language of the texts.
    :returns: answers added.
    :raises InputError: naming the place of an answer that does not fit the store.
    """
    rows: list[tuple[NewItem, str, Reply]] = []
    seen: dict[tuple[str | None, str], int] = {}
    for one in found:
        item = _item(one, lang)
        name = one.rater or UNKNOWN
        turn = seen[item.key, name] = seen.get((item.key, name), 0) + 1
        if turn > 1 and one.rater:
            continue  # a rater answers an item once
        rater = name if turn == 1 else f"{name} {turn}"
        key = sha256(json_text([item.key, rater]).encode()).hexdigest()
        rows.append((item, rater, _reply(one, key)))
    return store.add_answers(rows)


def _item(one: Judgement | Score, lang: str) -> NewItem:
    is_pair = isinstance(one, Judgement)
    texts = (one.first, one.second) if isinstance(one, Judgement) else (one.text,)
    content = json_text(["imported", one.prompt, *texts])
    return NewItem(
        one.prompt,
        tuple(map(Text, texts)),
        "pair" if is_pair else "rating",
        sha256(content.encode()).hexdigest(),
        query="import",
        lang=lang,
    )


def _reply(one: Judgement | Score, key: str) -> Reply:
    if isinstance(one, Judgement):
        strength = one.strength if one.winner in ("first", "second") else None
        return Reply(0, key, SIDES[one.winner], strength=strength, note=one.note)
    return Reply(0, key, "rate", score=one.score)
