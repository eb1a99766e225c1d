"""What the owner of a store wants to know: progress, agreement, and who answers how."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from textgym.reward_models.people.agreement import (
    Estimate,
    Ints,
    alpha_with_interval,
    answer_counts,
    disputes,
    interval,
    nominal,
    pairwise_agreement,
    share,
)
from textgym.reward_models.people.records import Event, Item, Settings, counted, standing

WINNERS = ("first", "second", "tie", "both_bad")
HASTY = 1.5  # seconds: nobody has read two texts by then
PAUSE = 300.0  # seconds: whoever took longer for an answer was doing something else


@dataclass(frozen=True)
class RaterSummary:
    """One rater.

    :param answers: standing ones, skips included.
    :param gold: share of gold items answered as known.
    :param self_agreement: share of repeats answered as before.
    :param left: share of choices between a and b that fell on a, the text shown on the left.
    :param hasty: answers within `HASTY` seconds of the text's appearance.
    :param seconds: median between a text's appearance and its answer, NaN without any; pauses are
        left out.
    """

    name: str
    answers: int
    skips: int
    ties: int
    gold: Estimate
    self_agreement: Estimate
    left: Estimate
    seconds: float
    hasty: int


@dataclass(frozen=True)
class Dispute:
    """An item on which raters disagree.

    :param answers: how often each was given, in the order of `WINNERS`.
    :param disagreement: share of pairs of answers that differ.
    """

    item: Item
    answers: tuple[int, ...]
    disagreement: float


@dataclass(frozen=True)
class Summary:
    """A store at a glance.

    :param items: open or closed, gold ones left out.
    :param finished: items with answers of as many raters as wanted.
    :param answers: those that count.
    :param alpha: Krippendorff's α of the choices, nominal.
    :param pairwise: share of pairs of answers to one item that are the same.
    :param rating_alpha: Krippendorff's α of the ratings, interval.
    :param choices: how often each was given, in the order of `WINNERS`.
    """

    items: int
    finished: int
    answers: int
    undone: int
    skips: int
    rewrites: int
    choices: tuple[int, ...]
    alpha: Estimate
    pairwise: float
    rating_alpha: Estimate
    gold: Estimate
    self_agreement: Estimate
    left: Estimate
    raters: Sequence[RaterSummary]
    disputed: Sequence[Dispute]


def summarize(
    items: Sequence[Item],
    events: Sequence[Event],
    settings: Settings,
    rng: np.random.Generator,
    *,
    most_disputed: int = 20,
) -> Summary:
    """A store's items and log, in figures.

    :param rng: draws the bootstrap.
    :param most_disputed: how many of the items that raters disagree on most.
    """
    by_id = {item.id: item for item in items}
    gold = {item.id: item.gold for item in items if item.gold is not None}
    answers = standing(events)
    valid = counted(events, settings.raters, list(gold))
    choices = [event for event in valid if event.winner is not None]
    counts = answer_counts(
        [event.item for event in choices],
        [WINNERS.index(event.winner) for event in choices if event.winner is not None],
        len(WINNERS),
    )
    ratings = [event for event in valid if event.score is not None]
    scores = sorted({event.score for event in ratings if event.score is not None})
    rating_counts = answer_counts(
        [event.item for event in ratings],
        [scores.index(event.score) for event in ratings if event.score is not None],
        len(scores),
    )
    per_item: dict[int, int] = {}
    for event in valid:
        per_item[event.item] = per_item.get(event.item, 0) + 1
    return Summary(
        items=len(items) - len(gold),
        finished=sum(n >= settings.raters for n in per_item.values()),
        answers=len(valid),
        undone=sum(event.undoes is not None for event in events),
        skips=sum(event.choice == "skip" for event in answers),
        rewrites=sum(event.rewrite is not None for event in answers),
        choices=tuple(int(n) for n in counts.sum(axis=0)),
        alpha=alpha_with_interval(counts, nominal(len(WINNERS)), rng),
        pairwise=pairwise_agreement(counts),
        rating_alpha=alpha_with_interval(rating_counts, interval(scores), rng),
        gold=_gold(answers, gold),
        self_agreement=_self_agreement(answers),
        left=_left(answers),
        raters=[
            _rater(name, [event for event in answers if event.rater == name], gold)
            for name in dict.fromkeys(event.rater for event in events)
        ],
        disputed=_disputed(by_id, [event.item for event in choices], counts, most_disputed),
    )


def _rater(name: str, answers: Sequence[Event], gold: Mapping[int, str | None]) -> RaterSummary:
    times = [event.answered_at - event.shown_at for event in answers]
    times = [time for time in times if 0 < time < PAUSE]
    return RaterSummary(
        name,
        len(answers),
        sum(event.choice == "skip" for event in answers),
        sum(event.choice == "tie" for event in answers),
        _gold(answers, gold),
        _self_agreement(answers),
        _left(answers),
        median(times) if times else float("nan"),
        sum(time < HASTY for time in times),
    )


def _gold(answers: Iterable[Event], gold: Mapping[int, str | None]) -> Estimate:
    hits = [
        event.winner == gold[event.item]
        for event in answers
        if event.item in gold and event.winner is not None and not event.is_repeat
    ]
    return share(sum(hits), len(hits))


def _self_agreement(answers: Iterable[Event]) -> Estimate:
    said: dict[tuple[int, str, bool], str] = {}
    for event in answers:
        if event.winner is not None:
            said[event.item, event.rater, event.is_repeat] = event.winner
    hits = [
        winner == said[item, rater, False]
        for (item, rater, is_repeat), winner in said.items()
        if is_repeat and (item, rater, False) in said
    ]
    return share(sum(hits), len(hits))


def _left(answers: Iterable[Event]) -> Estimate:
    sides = [event.choice for event in answers if event.choice in ("a", "b")]
    return share(sides.count("a"), len(sides))


def _disputed(
    items: dict[int, Item], answered: Sequence[int], counts: Ints, most: int
) -> list[Dispute]:
    ids = np.unique(np.asarray(answered, np.int64))
    disagreement = np.nan_to_num(disputes(counts))
    order = sorted(np.flatnonzero(disagreement), key=lambda i: (-disagreement[i], ids[i]))
    return [
        Dispute(
            items[int(ids[i])], tuple(int(n) for n in counts[i]), round(float(disagreement[i]), 6)
        )
        for i in order[:most]
    ]
