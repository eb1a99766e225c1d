"""How easy a text is to read: Flesch's reading ease as a reward. English."""

import math
import re
from collections.abc import Sequence
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.rules.columns import check_texts
from textgym.text_metrics.syllables import count_syllables
from textgym.text_metrics.words import split_words

_SENTENCE = re.compile(r"[^.!?。！？…]*\w[^.!?。！？…]*")
_INSIDE = re.compile(r"(?<=\d)[.,](?=\d)|\b(?:[A-Za-z]\.){2,}|\b(?:Mr|Mrs|Ms|Dr|St|vs|etc)\.")
PER_SENTENCE, PER_SYLLABLE, EASIEST = 1.015, 84.6, 206.835
SPAN = 50.0  # points off the target at which the score is 0


def reading_ease(text: str) -> float | None:
    """206.835 - 1.015 words/sentences - 84.6 syllables/words; None for a text without a word.

    100 is very easy, 60 plain English, 30 hard, and it goes on beyond both ends (at most 121.22).
    Points inside numbers, initials and common abbreviations end no sentence; syllables are counted
    by `textgym.text_metrics.syllables`.
    Source: Flesch 1948, "A new readability yardstick".
    """
    words = split_words(text)
    if not words:
        return None
    sentences = max(1, len(_SENTENCE.findall(_INSIDE.sub("x", text))))
    syllables = sum(count_syllables(word) for word in words)
    return EASIEST - PER_SENTENCE * len(words) / sentences - PER_SYLLABLE * syllables / len(words)


class Readability:
    """How easy a text reads (Flesch), in [0, 1]; or how near a target ease, in [-1, 1].

    Without a target: ease / 100, cut to [0, 1]. With one: max(-1, 1 - |ease - target| / 50). A text
    without a word gets 0, or -1. The formula is of English.

    :param target: the wanted ease: 90 is easy, 60 plain, 30 hard.
    :raises InputError: for a target that is not finite.
    """

    name = "readability"

    def __init__(self, target: float | None = None) -> None:
        if target is not None and not math.isfinite(target):
            raise InputError(f"target must be a finite reading ease, got {target!r}: 60 is plain")
        self.target = target

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float per completion."""
        check_texts(self.name, prompts, completions)
        return [self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        ease = reading_ease(text)
        if self.target is None:
            return 0.0 if ease is None else min(1.0, max(0.0, ease / 100))
        return -1.0 if ease is None else max(-1.0, 1.0 - abs(ease - self.target) / SPAN)
