"""The owner's summary as JSON; who wrote a text is left out, for the owner may be a rater too."""

import math
from typing import Any

from textgym.labelling.schemas import Body
from textgym.reward_models.people.agreement import Estimate
from textgym.reward_models.people.summary import Dispute, RaterSummary, Summary


class EstimateView(Body):
    """A figure with its 95% interval; None where nothing was counted."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    @classmethod
    def of(cls, estimate: Estimate) -> "EstimateView":
        """As it goes over the wire."""
        numbers = {name: _known(getattr(estimate, name)) for name in ("value", "low", "high")}
        return cls(**numbers, n=estimate.n)


class RaterView(Body):
    """One rater: see `people.summary.RaterSummary`."""

    name: str
    answers: int
    skips: int
    ties: int
    gold: EstimateView
    self_agreement: EstimateView
    left: EstimateView
    seconds: float | None
    hasty: int

    @classmethod
    def of(cls, rater: RaterSummary) -> "RaterView":
        """As it goes over the wire."""
        estimates: dict[str, Any] = {
            name: EstimateView.of(getattr(rater, name))
            for name in ("gold", "self_agreement", "left")
        }
        plain: dict[str, Any] = {
            name: getattr(rater, name) for name in ("name", "answers", "skips", "ties", "hasty")
        }
        return cls(**plain, **estimates, seconds=_known(rater.seconds))


class DisputeView(Body):
    """An item on which raters disagree, its texts in the order of the item.

    :param answers: how often first, second, tie and both bad were given.
    """

    item: int
    prompt: str
    texts: list[str]
    lang: str
    answers: list[int]
    disagreement: float

    @classmethod
    def of(cls, dispute: Dispute) -> "DisputeView":
        """As it goes over the wire."""
        item = dispute.item
        return cls(
            item=item.id,
            prompt=item.prompt,
            texts=[text.text for text in item.texts],
            lang=item.lang,
            answers=list(dispute.answers),
            disagreement=dispute.disagreement,
        )


class SummaryReply(Body):
    """GET /api/owner/summary: see `people.summary.Summary`."""

    items: int
    finished: int
    raters_per_item: int
    answers: int
    undone: int
    skips: int
    rewrites: int
    choices: list[int]
    alpha: EstimateView
    pairwise: float | None
    rating_alpha: EstimateView
    gold: EstimateView
    self_agreement: EstimateView
    left: EstimateView
    raters: list[RaterView]
    disputed: list[DisputeView]

    @classmethod
    def of(cls, summary: Summary, raters_per_item: int) -> "SummaryReply":
        """As it goes over the wire."""
        counts = ("items", "finished", "answers", "undone", "skips", "rewrites")
        estimates = ("alpha", "rating_alpha", "gold", "self_agreement", "left")
        values: dict[str, Any] = {name: getattr(summary, name) for name in counts}
        values |= {name: EstimateView.of(getattr(summary, name)) for name in estimates}
        return cls(
            **values,
            raters_per_item=raters_per_item,
            choices=list(summary.choices),
            pairwise=_known(summary.pairwise),
            raters=[RaterView.of(rater) for rater in summary.raters],
            disputed=[DisputeView.of(dispute) for dispute in summary.disputed],
        )


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None
