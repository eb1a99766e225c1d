"""What the owner's page shows: how far the judging is, and how far each rater can be relied on.

Gold items and hidden repeats tell of raters and are left out of what is said about texts.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations

from scipy.stats import binomtest

from textgym.reward_models.people.records import Event, Item, Settings, counted, standing

FAST = 1.5  # seconds within which nobody has read two texts
SHOWN = 20


@dataclass(frozen=True)
class Share:
    """A share with its 95% interval (Wilson), of `n`."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class RaterOverview:
    """One rater.

    :param seconds: median time of an answer; None before the first.
    :param fast: answers within `FAST` seconds.
    :param gold_right, gold: gold items answered as they should be, and all answered.
    :param repeats_same, repeats: pairs that were asked again and got the same answer, and all.
    :param left: share of the left text among choices of a side.
    :param last: UTC time of the last answer.
    """

    name: str
    answers: int
    seconds: float | None
    fast: int
    gold_right: int
    gold: int
    repeats_same: int
    repeats: int
    left: Share | None
    skips: int
    last: str


@dataclass(frozen=True)
class Disputed:
    """An item on which raters differ.

    :param apart: share of pairs of raters with different answers; of ratings their spread as a
        share of the scale.
    :param votes: how often each answer was given, of a pair; empty otherwise.
    """

    id: int
    prompt: str
    texts: tuple[str, ...]
    lang: str
    apart: float
    votes: dict[str, int]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Overview:
    """All of it.

    :param covered: of `items` (gold left out) those with as many answers as they should have.
    :param left: share of the left text among all choices of a side: position bias.
    """

    answers: int
    items: int
    covered: int
    raters_wanted: int
    left: Share | None
    raters: tuple[RaterOverview, ...]
    disputed: tuple[Disputed, ...]


def overview_of(
    items: Sequence[Item], events: Sequence[Event], raters: Sequence[str], settings: Settings
) -> Overview:
    """The overview of a store.

    :param items, events: all of them, in order.
    :param raters: everybody who joined.
    """
    by_id = {item.id: item for item in items}
    gold = [item.id for item in items if item.gold is not None]
    said = standing(events)
    about_texts = counted(events, settings.raters, gold)
    answers = Counter(event.item for event in about_texts)
    by_rater = defaultdict(list)
    for event in said:
        by_rater[event.rater].append(event)
    return Overview(
        answers=len(said),
        items=len(items) - len(gold),
        covered=sum(n >= settings.raters for n in answers.values()),
        raters_wanted=settings.raters,
        left=_left_share(said),
        raters=tuple(_rater(name, by_rater[name], by_id) for name in raters if by_rater[name]),
        disputed=_disputed(about_texts, by_id, settings),
    )


def share_of(k: int, n: int) -> Share | None:
    """`k` of `n`; None of none."""
    if n == 0:
        return None
    interval = binomtest(k, n).proportion_ci(method="wilson")
    return Share(k / n, float(interval.low), float(interval.high), n)


def _left_share(events: Sequence[Event]) -> Share | None:
    sides = Counter(event.choice for event in events)
    return share_of(sides["a"], sides["a"] + sides["b"])


def _rater(name: str, events: Sequence[Event], items: dict[int, Item]) -> RaterOverview:
    given = [event for event in events if event.choice != "skip"]
    times = [event.answered_at - event.shown_at for event in given if event.shown_at]
    gold = [event for event in given if items[event.item].gold is not None]
    first = {event.item: event.winner for event in given if not event.is_repeat}
    again = [event for event in given if event.is_repeat and event.item in first]
    last = max(event.received_at for event in events)
    return RaterOverview(
        name=name,
        answers=len(events),
        seconds=statistics.median(times) if times else None,
        fast=sum(time < FAST for time in times),
        gold_right=sum(event.winner == items[event.item].gold for event in gold),
        gold=len(gold),
        repeats_same=sum(event.winner == first[event.item] for event in again),
        repeats=len(again),
        left=_left_share(given),
        skips=len(events) - len(given),
        last=datetime.fromtimestamp(last, UTC).strftime("%Y-%m-%d %H:%M"),
    )


def _disputed(
    events: Sequence[Event], items: dict[int, Item], settings: Settings
) -> tuple[Disputed, ...]:
    by_item = defaultdict(list)
    for event in events:
        by_item[event.item].append(event)
    found = []
    low, high = settings.scale
    for number, answers in by_item.items():
        item = items[number]
        winners = [event.winner for event in answers if event.winner is not None]
        scores = tuple(sorted(event.score for event in answers if event.score is not None))
        pairs = list(combinations(winners, 2))
        apart = 0.0
        if pairs:
            apart = sum(one != other for one, other in pairs) / len(pairs)
        elif len(scores) > 1:
            apart = (scores[-1] - scores[0]) / (high - low)
        if apart == 0:
            continue
        names = ("first", "second", "tie", "both_bad")
        votes = {name: winners.count(name) for name in names} if winners else {}  # type: ignore[arg-type]
        texts = tuple(text.text for text in item.texts)
        found.append(Disputed(number, item.prompt, texts, item.lang, apart, votes, scores))
    found.sort(key=lambda each: (-each.apart, -sum(each.votes.values()), each.id))
    return tuple(found[:SHOWN])
