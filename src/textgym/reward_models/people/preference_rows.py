"""What people said of texts, as rows of files that others read, and back.

A *preference* row is what TRL's trainers read: `prompt`, `chosen`, `rejected`, as texts or as chat
messages. Beside them stand `tie` (true: nobody preferred either; the order says nothing), `winner`,
`rater`, and where they are known `strength`, `note` and `facts`. A *rating* row has `prompt`,
`text`, `ratings` (of several raters) and `raters`. `textgym.envs.texts.read_ratings` reads both.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from textgym.messages import message
from textgym.reward_models.people.records import Event, Item, Winner, counted, facts_of

Row = dict[str, Any]


@dataclass(frozen=True)
class Judgement:
    """One person's choice between two completions of a prompt.

    :param winner: "first", "second", "tie" or "both_bad".
    :param rater: who chose; "" where it is not known.
    :param strength: 1 (slightly) or 2 (clearly).
    :param facts: which text has its facts right, apart from liking: "first", "second", "both",
        "neither" or "unsure".
    """

    prompt: str
    first: str
    second: str
    winner: Winner
    rater: str = ""
    strength: int | None = None
    note: str = ""
    facts: str | None = None


@dataclass(frozen=True)
class Score:
    """One person's rating of a completion.

    :param score: higher is better.
    """

    prompt: str
    text: str
    score: float
    rater: str = ""


def judgements(
    items: Iterable[Item], events: Iterable[Event], *, raters: int
) -> list[Judgement | Score]:
    """What the answers of a store say; skips, repeats, gold items and rewrites say nothing here.

    :param items: all that the events are about.
    :param raters: how many people an item is for: later answers are left out.
    """
    by_id = {item.id: item for item in items}
    gold = [item.id for item in by_id.values() if item.gold is not None]
    found: list[Judgement | Score] = []
    for event in counted(events, raters, gold):
        item = by_id[event.item]
        texts = [text.text for text in item.texts]
        if event.winner is not None and len(texts) == 2:
            found.append(
                Judgement(
                    item.prompt,
                    texts[0],
                    texts[1],
                    event.winner,
                    event.rater,
                    event.strength,
                    event.note,
                    facts_of(event),
                )
            )
        elif event.score is not None:
            found.append(Score(item.prompt, texts[0], event.score, event.rater))
    return found


def preference_rows(
    found: Iterable[Judgement | Score], *, chat: bool = False, ties: bool = True
) -> Iterator[Row]:
    """Choices as preference rows, one for each.

    :param chat: as messages: the prompt is the user's, completions are the assistant's.
    :param ties: rows with `tie` too: for a reward model; TRL's trainers know no ties, and would
        learn the first text as the better one.
    """
    for one in found:
        if not isinstance(one, Judgement):
            continue
        is_tie = one.winner in ("tie", "both_bad")
        if is_tie and not ties:
            continue
        best, other = one.first, one.second
        if one.winner == "second":
            best, other = other, best
        row: Row = {
            "prompt": message("user", one.prompt) if chat else one.prompt,
            "chosen": message("assistant", best) if chat else best,
            "rejected": message("assistant", other) if chat else other,
            "tie": is_tie,
            "winner": one.winner,
            "rater": one.rater,
        }
        if one.strength is not None:
            row["strength"] = one.strength
        if one.note:
            row["note"] = one.note
        if one.facts is not None:
            row["facts"] = one.facts
        yield row


def rating_rows(found: Iterable[Judgement | Score]) -> Iterator[Row]:
    """Scores as rating rows, one for each text; a rater's later score of a text takes its place."""
    texts: dict[tuple[str, str], dict[str, float]] = {}
    for place, one in enumerate(found):
        if isinstance(one, Score):
            by_rater = texts.setdefault((one.prompt, one.text), {})
            by_rater[one.rater or f"\0{place}"] = one.score
    for (prompt, text), scores in texts.items():
        raters = ["" if name.startswith("\0") else name for name in scores]
        yield {"prompt": prompt, "text": text, "ratings": [*scores.values()], "raters": raters}


def count_winners(found: Iterable[Judgement | Score]) -> Mapping[str, int]:
    """How many choices of each kind there are, and ratings: what an export has to say."""
    return Counter(one.winner if isinstance(one, Judgement) else "rating" for one in found)


def judgements_of_rows(rows: Sequence[Any], raters: Sequence[str] = ()) -> list[Judgement | Score]:
    """The inverse of the exports, from rows that `read_ratings` has checked.

    :param rows: with `prompt`, `chosen`, `rejected` and maybe `is_tie`; or with `text`, `ratings`.
    :param raters: whose choice each preference is, where that is known.
    """
    found: list[Judgement | Score] = []
    for place, row in enumerate(rows):
        rater = raters[place] if raters else ""
        if hasattr(row, "chosen"):
            winner: Winner = "tie" if getattr(row, "is_tie", False) else "first"
            found.append(Judgement(row.prompt, row.chosen, row.rejected, winner, rater))
        else:
            prompt = getattr(row, "prompt", "")
            found += [Score(prompt, row.text, float(score), rater) for score in row.ratings]
    return found
