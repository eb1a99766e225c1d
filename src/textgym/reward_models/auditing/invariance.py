"""Is a score a property of its text? The same again, alone, in another order; and how fast."""

import time

import numpy as np

from textgym.reward_models.auditing.findings import Example, Finding, Floats, Verdict
from textgym.reward_models.auditing.scored import ScoredTexts

CHANGED = 1e-3  # standard deviations; float32 in another batch moves less
SLOW = 20.0  # texts a second
ALONE = 16  # texts that are asked about one by one


def determinism(scored: ScoredTexts) -> Finding:
    """The same texts in the same order once more."""
    places = np.arange(len(scored.texts))
    again = scored.asked_again(places)
    return _unchanged("determinism", "asked again", scored, places, again)


def permutation(scored: ScoredTexts, rng: np.random.Generator) -> Finding:
    """The same texts in another order."""
    order = rng.permutation(len(scored.texts))
    return _unchanged("permutation", "in another order", scored, order, scored.asked_again(order))


def batch(scored: ScoredTexts) -> Finding:
    """Texts by themselves, of all lengths."""
    lengths = [len(text) for text in scored.texts.completions]
    order = np.argsort(lengths, kind="stable")
    places = order[np.linspace(0, len(order) - 1, min(ALONE, len(order))).astype(np.int64)]
    alone = np.concatenate([scored.asked_again(places[k : k + 1]) for k in range(len(places))])
    return _unchanged("batch", "alone", scored, places, alone)


def _unchanged(
    name: str, how: str, scored: ScoredTexts, places: np.ndarray, scores: Floats
) -> Finding:
    moved = np.abs(scores - scored.scores[places]) / scored.unit
    worst = int(np.argmax(moved))
    value = float(moved[worst])
    verdict: Verdict = "fail" if value > CHANGED else "pass"
    texts, place = scored.texts, places[worst]
    text = texts.completions[place]
    example = Example(
        texts.prompts[place], text, float(scores[worst]), text, float(scored.scores[place])
    )
    nan = float("nan")
    return Finding(
        name,
        verdict,
        "largest change, SD",
        value,
        nan,
        nan,
        f"over {CHANGED:g} fails",
        f"{how}, a text's score changes by at most {value:.2g} SD",
        () if verdict == "pass" else (example,),
    )


def speed(scored: ScoredTexts) -> Finding:
    """Texts a second, all in one call; the faster of two."""
    places = np.arange(len(scored.texts))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        scored.asked_again(places)
        seconds.append(time.perf_counter() - began)
    value = len(places) / max(min(seconds), 1e-9)
    nan = float("nan")
    return Finding(
        "speed",
        "warn" if value < SLOW else "pass",
        "texts a second",
        value,
        nan,
        nan,
        f"under {SLOW:g} warns",
        f"{value:,.0f} texts a second on this machine",
    )
