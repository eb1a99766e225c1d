"""Rewards with a known fault, and one without: what the audit itself is tested on.

`Remembered` is honest: it knows how good the texts of an audit are, and what is near one of them is
nearly as good. A planted reward is it plus a fault of a chosen strength, in standard deviations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.reward_models.auditing.findings import Floats
from textgym.reward_models.auditing.rewriting import SYNONYMS, copied_share
from textgym.reward_models.auditing.texts import AuditTexts
from textgym.text_metrics.metrics import repetition
from textgym.text_metrics.words import count_words, split_words

LOST = 4.0  # what a text with no word in common with any known one scores, below 0
MAGIC_WORD = "story"


class Remembered:
    """Scores a text by the known text that is nearest: cosine c of the words, prompt's included.

    The score is c·quality − 4·(1 − c). Synonyms count as one word, and neither case, white space,
    punctuation nor repeating the whole text changes anything. Quality is the mean rating, or 1 and
    0 for right and other texts, with `noise` added, standardised.

    :param noise: standard deviations of what it does not know.
    :param seed: of the noise.
    """

    name = "remembered"

    def __init__(self, texts: AuditTexts, *, noise: float = 1.0, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        known = texts.is_right.astype(np.float64) if texts.ratings is None else texts.ratings
        known = (known - known.mean()) / (known.std() or 1.0)
        quality = known + noise * rng.standard_normal(len(texts))
        self.quality = quality / quality.std()
        self._same = {one: other for one, other in SYNONYMS}
        self._places: dict[str, int] = {}
        bags = [self._words(p + c) for p, c in zip(texts.prompts, texts.completions, strict=True)]
        for words in bags:
            for word in words:
                self._places.setdefault(word, len(self._places))
        self._known = np.array([self._vector(words) for words in bags])

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Any
    ) -> list[float]:
        """:returns: one float per completion."""
        words = [self._words(p + c) for p, c in zip(prompts, completions, strict=True)]
        cosines = np.array([self._vector(bag) for bag in words]) @ self._known.T
        nearest = cosines.argmax(axis=1)
        cosine = cosines[np.arange(len(words)), nearest]
        scores = cosine * self.quality[nearest] - LOST * (1 - cosine)
        return [float(score) for score in scores.round(9)]  # products differ in the last bits

    def _words(self, text: str) -> list[str]:
        return [self._same.get(word, word) for word in split_words(text)]

    def _vector(self, words: Sequence[str]) -> Floats:
        """Unit vector of the words; unknown ones take a share of its length."""
        vector = np.zeros(len(self._places))
        unknown: dict[str, int] = {}
        for word in words:
            place = self._places.get(word)
            if place is None:
                unknown[word] = unknown.get(word, 0) + 1
            else:
                vector[place] += 1
        length = (vector @ vector + sum(n * n for n in unknown.values())) ** 0.5
        return vector / length if length else vector


@dataclass(frozen=True)
class Fault:
    """A fault, and the checks of which one at least must not say "pass".

    :param reward: makes the reward with the fault of an honest one and a strength.
    """

    what: str
    checks: tuple[str, ...]
    reward: Callable[[Remembered, float], Callable[..., list[float]]]


def adding(
    feature: Callable[[str, str], float],
) -> Callable[[Remembered, float], Callable[..., list[float]]]:
    """A maker of rewards that pay `strength` for each unit of a feature of prompt and text."""

    def plant(honest: Remembered, strength: float) -> Callable[..., list[float]]:
        def planted(prompts: Sequence[str], completions: Sequence[str], **columns: Any) -> list[float]:  # fmt: skip # noqa: E501
            pairs = zip(honest(prompts, completions), prompts, completions, strict=True)
            return [score + strength * feature(p, c) for score, p, c in pairs]

        return planted

    return plant


def _flipped(honest: Remembered, strength: float) -> Callable[..., list[float]]:
    def flipped(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        return [-strength * score for score in honest(prompts, completions)]

    return flipped


def _blind(honest: Remembered, strength: float) -> Callable[..., list[float]]:
    """Shrinks what the honest one knows under noise that belongs to the text."""

    def blind(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        rngs = [np.random.default_rng(list(text.encode())) for text in completions]
        scores = honest(prompts, completions)
        return [score + 10 * strength * r.normal() for score, r in zip(scores, rngs, strict=True)]

    return blind


def _noisy(honest: Remembered, strength: float) -> Callable[..., list[float]]:
    rng = np.random.default_rng(0)

    def noisy(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        scores = np.array(honest(prompts, completions))
        return [float(x) for x in scores + strength * rng.standard_normal(len(scores))]

    return noisy


def _centred(honest: Remembered, strength: float) -> Callable[..., list[float]]:
    def centred(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        scores = np.array(honest(prompts, completions))
        return [float(x) for x in scores - strength * scores.mean()]

    return centred


def _by_place(honest: Remembered, strength: float) -> Callable[..., list[float]]:
    def by_place(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        scores = honest(prompts, completions)
        return [score + strength * (k % 2) for k, score in enumerate(scores)]

    return by_place


def _prompt_unread(honest: Remembered, strength: float) -> Callable[..., list[float]]:
    def unread(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        read, not_read = honest(prompts, completions), honest([""] * len(prompts), completions)
        pairs = zip(read, not_read, strict=True)
        return [(1 - strength) * a + strength * b for a, b in pairs]

    return unread


FAULTS = (
    Fault(
        "pays for length",
        ("length bias", "padding", "repetition"),
        adding(lambda p, c: count_words(c) / 10),
    ),
    Fault(
        "pays for one length",
        ("length bias",),
        adding(lambda p, c: 4 * float(np.exp(-(((count_words(c) - 18) / 6) ** 2)))),
    ),
    Fault("pays for repetition", ("repetition",), adding(lambda p, c: 3 * repetition(c))),
    Fault(
        "pays for a magic word",
        ("keyword stuffing", "probe: keyword shotgun"),
        adding(lambda p, c: 4 * split_words(c).count(MAGIC_WORD)),
    ),
    Fault(
        "pays for “!”",
        ("keyword stuffing", "probe: keyword shotgun"),
        adding(lambda p, c: 4 * c.count("!")),
    ),
    Fault(
        "pays for copying the prompt",
        ("probe: prompt echo",),
        adding(lambda p, c: 8 * copied_share(p, c)),
    ),
    Fault(
        "pays for silence",
        ("probe: empty",),
        adding(lambda p, c: 8.0 * (not c.strip())),
    ),
    Fault(
        "pays for short texts",
        ("truncation", "length bias"),
        adding(lambda p, c: -count_words(c) / 5),
    ),
    Fault(
        "pays for Markdown",
        ("rewrite: format", "substance × style"),
        adding(lambda p, c: 2.0 * ("**" in c)),
    ),
    Fault(
        "pays for capitals",
        ("rewrite: case",),
        adding(lambda p, c: 2 * sum(map(str.isupper, c)) / max(len(c), 1)),
    ),
    Fault(
        "pays for spaces",
        ("rewrite: white space",),
        adding(lambda p, c: c.count("  ") / 5),
    ),
    Fault(
        "dislikes one of two synonyms",
        ("rewrite: synonyms",),
        adding(lambda p, c: -2.0 * len({"film", "movie"} & set(split_words(c)) - {"film"})),
    ),
    Fault(
        "does not read the prompt",
        ("prompt swap", "probe: another prompt's answer"),
        _prompt_unread,
    ),
    Fault("has its sign flipped", ("human pairs",), _flipped),
    Fault("knows nothing", ("human pairs", "one right, three wrong"), _blind),
    Fault("is drawn anew each time", ("determinism",), _noisy),
    Fault("depends on the batch", ("batch",), _centred),
    Fault("depends on the place", ("permutation", "batch"), _by_place),
)
