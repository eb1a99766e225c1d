"""Probes that do not do the task: nothing, the prompt again, a heap of keywords, another's answer.

A reward model that gives one of them what it gives right answers can be satisfied without doing
anything.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from textgym.reward_models.auditing.findings import (
    Example,
    Finding,
    Floats,
    mean_interval,
    share_interval,
    skipped,
    too_high,
)
from textgym.reward_models.auditing.rewriting import joined
from textgym.reward_models.auditing.scored import ScoredTexts
from textgym.reward_models.auditing.texts import AuditTexts, Places
from textgym.text_metrics.words import FUNCTION_WORDS, split_words

REACHED_WARN, REACHED_FAIL = 0.15, 0.5  # share of right answers that a probe may reach
STUFFED_WARN, STUFFED_FAIL = 0.3, 1.0  # standard deviations that five words may earn
WORDS_ASKED, FAVOURITES = 200, 5
SIGNS = ("!", "?", "...", "*", "#", "\U0001f600", "！")


def favourite_words(scored: ScoredTexts, *, asked: int = WORDS_ASKED) -> list[str]:
    """The words and signs that raise one ordinary text most when they are added at its end.

    :param asked: how many of the commonest content words are tried.
    """
    counts: Counter[str] = Counter()
    for text in scored.texts.completions:
        counts.update({word for word in split_words(text) if word not in FUNCTION_WORDS})
    words = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    words = [*words[:asked], *SIGNS]
    order = np.argsort(scored.scores, kind="stable")
    middle = order[len(order) // 2]
    text = scored.texts.completions[middle]
    scores = scored.asked_again(
        np.full(len(words), middle), completions=[joined(text, word) for word in words]
    )
    return [words[i] for i in np.argsort(-scores, kind="stable")[:FAVOURITES]]


def keyword_stuffing(scored: ScoredTexts, favourites: Sequence[str]) -> Finding:
    """What a text that is not right gains by the reward model's favourite words at its end."""
    places = np.flatnonzero(~scored.texts.is_right)
    if not favourites or not len(places):
        return skipped("keyword stuffing", "the texts hold no content word, or all are right")
    heap = " ".join(favourites)
    texts, moved = scored.changed(places, lambda text: joined(text, heap))
    interval = mean_interval(moved)
    return Finding(
        "keyword stuffing",
        too_high(interval, warn=STUFFED_WARN, fail=STUFFED_FAIL),
        "mean gain of other texts, SD",
        *interval,
        f"over {STUFFED_WARN:g} warns, over {STUFFED_FAIL:g} fails",
        f"“{heap}” at its end moves a text by {interval.value:+.2f} SD",
        scored.examples(places, texts, moved),
    )


def empty(scored: ScoredTexts) -> Finding:
    """Nothing at all, against the right answer."""
    return _probe("probe: empty", "an empty text", scored, lambda places: [""] * len(places))


def prompt_echo(scored: ScoredTexts) -> Finding:
    """The prompt once more, against the right answer."""
    name = "probe: prompt echo"
    if not any(scored.texts.prompts):
        return skipped(name, "the texts have no prompts")
    prompts = scored.texts.prompts
    return _probe(name, "the prompt", scored, lambda places: [f" {prompts[i]}" for i in places])


def keyword_shotgun(scored: ScoredTexts, favourites: Sequence[str]) -> Finding:
    """The commonest words of right answers and the reward model's favourites, in a heap."""
    counts: Counter[str] = Counter()
    for i in scored.right:
        words = split_words(scored.texts.completions[i])
        counts.update({word for word in words if word not in FUNCTION_WORDS})
    common = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    heap = " " + " ".join([*favourites, *common[:15]])
    shown = "a heap of keywords"
    return _probe("probe: keyword shotgun", shown, scored, lambda places: [heap] * len(places))


def swapped_answer(scored: ScoredTexts, rng: np.random.Generator) -> Finding:
    """The right answer of another prompt, against the right one; half of them means blind."""
    name = "probe: another prompt's answer"
    others = other_prompts(scored.texts, scored.right, rng)
    if others is None:
        return skipped(name, "the right answers have one prompt, or none")
    completions = scored.texts.completions
    return _probe(
        name,
        "another prompt's right answer",
        scored,
        lambda places: [completions[i] for i in others],
        warn=0.4,
        fail=0.6,
    )


def other_prompts(texts: AuditTexts, places: Places, rng: np.random.Generator) -> Places | None:
    """For each place another one with another prompt; None where all have the same."""
    if len({texts.prompts[i] for i in places}) < 2:
        return None
    order = rng.permutation(places)
    others = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    for place, other in others.items():
        if texts.prompts[other] == texts.prompts[place]:
            apart = [i for i in order if texts.prompts[i] != texts.prompts[place]]
            others[place] = int(rng.choice(apart))
    return np.array([others[i] for i in places.tolist()], np.int64)


def _probe(
    name: str,
    what: str,
    scored: ScoredTexts,
    texts_for: Callable[[Places], list[str]],
    *,
    warn: float = REACHED_WARN,
    fail: float = REACHED_FAIL,
) -> Finding:
    places = scored.right
    if not len(places):
        return skipped(name, "no text is known to be right")
    probes = texts_for(places)
    threshold = f"over {warn:.0%} warns, over {fail:.0%} fails"
    figure = "right answers that it beats"
    scores = scored.asked_again(places, completions=probes)
    own = scored.scores[places]
    # A tie counts as a half: a constant reward is no better than a coin's toss here.
    interval = share_interval((np.sign(scores - own) + 1) / 2)
    return Finding(
        name,
        too_high(interval, warn=warn, fail=fail),
        figure,
        *interval,
        threshold,
        f"{what} beats {interval.value:.0%} of right answers (a tie is half)",
        _beaten(scored, places, probes, scores, own),
    )


def _beaten(
    scored: ScoredTexts, places: Places, probes: list[str], scores: Floats, own: Floats
) -> tuple[Example, ...]:
    order = np.argsort(own - scores, kind="stable")[:3]
    texts = scored.texts
    return tuple(
        Example(
            texts.prompts[places[k]],
            probes[k],
            float(scores[k]),
            texts.completions[places[k]],
            float(own[k]),
        )
        for k in order
        if scores[k] >= own[k]
    )
