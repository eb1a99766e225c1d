"""The verdict in a sentence: a winner only where every interval says so."""

from collections.abc import Sequence

from textgym.agents.comparison.cautions import in_words
from textgym.agents.comparison.judgements import JudgedPair, Judgement


def headline_of(judgements: Sequence[Judgement]) -> str:
    """One plain sentence.

    A cell wins if by every gold judge the interval of its difference to every other cell lies
    above 0; all others are ties, and are said as ties.
    """
    judged = [judgement for judgement in judgements if judgement.cells]
    if not judged:
        return (
            "No verdict: no independent judge scored held-out texts (--gold); a reward model "
            "cannot judge what was trained on it."
        )
    if len(judged[0].cells) == 1:
        return _alone(judged)
    winners = [judgement.winner for judgement in judged]
    if winners[0] is not None and set(winners) == {winners[0]}:
        return _won(winners[0], judged)
    if len(judged) > 1 and all(winners):
        told = [f"{j.judge} puts {w} first" for j, w in zip(judged, winners, strict=True)]
        return f"No winner: the judges disagree; {', '.join(told)}."
    return f"No winner: {'; '.join(_tied(judgement) for judgement in judged)}."


def _won(label: str, judged: Sequence[Judgement]) -> str:
    told = []
    for judgement in judged:
        pairs = [judgement.pair(label, c.cell) for c in judgement.cells if c.cell != label]
        nearest = min(filter(None, pairs), key=lambda pair: pair.difference.value)
        told.append(
            f"by {judgement.judge}: {in_words(nearest.difference)}{_over(nearest, len(pairs))}"
        )
    others = [c.cell for c in judged[0].cells if c.cell != label]
    whom = {1: others[0], 2: "both other cells"}.get(len(others), f"all {len(others)} other cells")
    sentence = f"{label} is better than {whom} {'; '.join(told)}"
    below = [
        judgement.judge
        for judgement in judged
        if not next(c for c in judgement.cells if c.cell == label).gain.low > 0
    ]
    if below:
        sentence += f". It is not shown to be better than its start by {' and '.join(below)}"
    return f"{sentence}."


def _over(nearest: JudgedPair, n_pairs: int) -> str:
    return "" if n_pairs == 1 else f" over {nearest.other}, the nearest"


def _tied(judgement: Judgement) -> str:
    first = judgement.cells[0].cell
    if judgement.tells_nothing:
        return (
            f"{judgement.judge} tells nothing apart, since it gives all texts of a prompt one score"
        )
    if judgement.winner is not None:
        return f"by {judgement.judge} {judgement.winner} is better than every other cell"
    ties = judgement.not_told_apart(first)
    if not ties:
        return f"by {judgement.judge} not all cells can be compared"
    nearest = judgement.pair(first, ties[0])
    shown = ", ".join(ties[:3]) + (f" and {len(ties) - 3} more" if len(ties) > 3 else "")
    apart = "" if nearest is None else f" ({in_words(nearest.difference)})"
    if len(ties) > 1 and nearest is not None:
        apart = f" ({in_words(nearest.difference)} over {nearest.other})"
    return f"by {judgement.judge} {first} is first, but is not told apart from {shown}{apart}"


def _alone(judged: Sequence[Judgement]) -> str:
    label = judged[0].cells[0].cell
    told = []
    for judgement in judged:
        gain = judgement.cells[0].gain
        is_told = "is better than" if gain.low > 0 else "is worse than" if gain.high < 0 else None
        words = is_told or "is not told apart from"
        told.append(f"by {judgement.judge} it {words} its start: {in_words(gain)}")
    return f"One cell, so nothing to compare with: {label}; {'; '.join(told)}."
