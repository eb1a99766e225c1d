"""What people are asked and what they answered, as plain records.

An *item* is a question that k people answer: a pair of texts to choose from, one text to rate, or
one text to rewrite. A *showing* is one item in front of one rater, in an order of its own. An
*event* is a line of the log, which only grows: an answer to a showing, or the undoing of one.

Sides: the texts of an item are its `first` and `second`; on the screen they are `a` (left, or
above) and `b`. A showing that `is_swapped` has the second text as `a`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["pair", "rating", "edit"]
Choice = Literal["a", "b", "tie", "both_bad", "skip", "rate", "edit"]
Winner = Literal["first", "second", "tie", "both_bad"]

KINDS: tuple[Kind, ...] = ("pair", "rating", "edit")
CHOICES: Mapping[Kind, tuple[Choice, ...]] = {
    "pair": ("a", "b", "tie", "both_bad", "skip"),
    "rating": ("rate", "skip"),
    "edit": ("edit", "skip"),
}
FACTS: Mapping[Kind, tuple[str, ...]] = {
    "pair": ("a", "b", "both", "neither", "unsure"),
    "rating": ("right", "wrong", "unsure"),
    "edit": ("right", "wrong", "unsure"),
}
ASKABLE = ("strength", "facts", "rewrite")
HELD_OUT = "held_out"  # the query of pairs that are set aside: no loop is fitted to their answers
SKIP_REASONS = ("cannot_judge", "wrong_language", "offensive", "broken", "other")


@dataclass(frozen=True)
class Text:
    """A completion, with what is known of who wrote it.

    :param source: run, step, cell and the like; kept for the owner, never sent to a rater.
    :param is_cut: it ended at the budget, so that the page says so.
    """

    text: str
    source: Mapping[str, Any] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True)
class NewItem:
    """An item to be asked about.

    :param texts: two for a pair, one otherwise.
    :param key: makes adding idempotent: an item whose key is there already is not added again.
    :param priority: items of a higher one are shown first.
    :param gold: the known answer of a pair, which checks raters; every rater sees such an item.
    :param query: the rule that picked it ("random", "disagreement"), or `HELD_OUT`.
    :param lang: BCP 47 tag of the texts, for the browser's choice of glyphs.
    """

    prompt: str
    texts: tuple[Text, ...]
    kind: Kind = "pair"
    key: str | None = None
    priority: float = 0.0
    gold: Winner | None = None
    query: str = ""
    lang: str = ""


@dataclass(frozen=True)
class Item(NewItem):
    """An item of a store.

    :param added_at: seconds since 1970.
    :param is_open: people are still asked; a closed one keeps its answers.
    """

    id: int = 0
    added_at: float = 0.0
    is_open: bool = True


@dataclass(frozen=True)
class Showing:
    """An item in front of one rater.

    :param is_repeat: asked a second time, order swapped, to see whether the rater says the same.
    :param expires_at: until when nobody else gets the item in this one's place.
    :param answer: the event that answers it now, None before and after an undo.
    """

    id: int
    item: Item
    rater: str
    is_swapped: bool
    is_repeat: bool
    shown_at: float
    expires_at: float
    answer: int | None = None

    @property
    def on_screen(self) -> tuple[Text, ...]:
        """The texts in the order shown."""
        return self.item.texts[::-1] if self.is_swapped else self.item.texts


@dataclass(frozen=True)
class Reply:
    """What a rater says about a showing.

    :param key: chosen by the page, the same at every retry: the answer is stored once.
    :param strength: 1 (slightly) or 2 (clearly), of a choice between a and b.
    :param score: of a rating, on the store's scale.
    :param rewrite: the text as the rater would have written it: of an edit, or beside a choice.
    :param reason: one of `SKIP_REASONS`, for a skip.
    :param facts: which side has its facts right, asked apart from liking: one of `FACTS`. Assured
        wording hides errors from raters (Hosking et al. 2023, arXiv 2309.16349).
    :param shown_at, answered_at: seconds since 1970 by the rater's own clock.
    """

    showing: int
    key: str
    choice: Choice
    strength: int | None = None
    score: float | None = None
    rewrite: str | None = None
    reason: str | None = None
    facts: str | None = None
    note: str = ""
    shown_at: float = 0.0
    answered_at: float = 0.0


@dataclass(frozen=True)
class Event:
    """A line of the log: an answer (`undoes` is None), or the undoing of one.

    :param id: grows by one per event; events are never changed.
    :param winner: the choice in the order of the item's texts; None but for answered pairs.
    :param facts: as said of the screen, like `choice`; `facts_of` has it of the item's texts.
    :param undoes: the answer that this event takes back.
    :param received_at: seconds since 1970 by the server's clock.
    """

    id: int
    item: int
    showing: int
    rater: str
    key: str
    choice: Choice | None
    winner: Winner | None
    strength: int | None
    score: float | None
    rewrite: str | None
    reason: str | None
    note: str
    is_swapped: bool
    is_repeat: bool
    shown_at: float
    answered_at: float
    received_at: float
    undoes: int | None = None
    facts: str | None = None


@dataclass(frozen=True)
class Refit:
    """A reward model fitted to answers.

    :param answers: ids of the events it saw.
    :param details: figures of the fit, where its weights are.
    """

    id: int
    run: str
    step: int
    answers: tuple[int, ...]
    details: Mapping[str, Any]
    at: float


@dataclass(frozen=True)
class Settings:
    """What holds for a whole store, chosen when it is made.

    :param raters: how many people an item is for.
    :param scale: lowest and highest score of a rating; whole steps between them.
    :param guidelines: shown to raters on demand; plain text.
    :param asks: what raters are asked beside their choice: "strength", "facts", "rewrite" (the
        text chosen, as they would have written it).
    :param repeats: share of showings that ask a rater again.
    :param gold: share of showings that are gold items, while there are any.
    :param seed: of all chance in the store.
    :param id: says which store this is.
    """

    raters: int = 1
    scale: tuple[int, int] = (1, 5)
    guidelines: str = ""
    asks: tuple[str, ...] = ()
    repeats: float = 0.05
    gold: float = 0.05
    seed: int = 0
    id: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a rater is.

    :param answered: items that this rater has answered or skipped.
    :param left: items still open to this rater.
    :param today: answers of the last 24 hours.
    """

    answered: int
    left: int
    today: int


def winner_of(choice: str | None, is_swapped: bool) -> Winner | None:
    """A choice on the screen in the order of the item's texts."""
    if choice in ("tie", "both_bad"):
        return choice  # type: ignore[return-value]
    if choice not in ("a", "b"):
        return None
    return "first" if (choice == "a") != is_swapped else "second"


def facts_of(event: Event) -> str | None:
    """Which text has its facts right: "first", "second", "both", "neither", "unsure"; of one text
    "right", "wrong", "unsure"; None where nothing was said."""
    return winner_of(event.facts, event.is_swapped) or event.facts


def standing(events: Iterable[Event]) -> list[Event]:
    """The answers of a log that no later event took back, in order; skips among them."""
    answers: dict[int, Event] = {}
    for event in events:
        if event.undoes is None:
            answers[event.id] = event
        else:
            answers.pop(event.undoes, None)
    return list(answers.values())


def counted(events: Iterable[Event], raters: int, gold: Sequence[int] = ()) -> list[Event]:
    """The answers that say something about texts: the first `raters` standing ones of each item.

    Skips, repeats and answers to gold items are left out.

    :param raters: how many people an item is for.
    :param gold: ids of the gold items.
    """
    seen: dict[int, int] = {}
    found = []
    excluded = set(gold)
    for event in standing(events):
        if event.choice == "skip" or event.is_repeat or event.item in excluded:
            continue
        seen[event.item] = seen.get(event.item, 0) + 1
        if seen[event.item] <= raters:
            found.append(event)
    return found
