"""The parts that most sums on texts need: a floor under the length, and a ceiling."""

from collections.abc import Sequence
from typing import Any

from textgym.errors import InputError
from textgym.text_metrics.words import count_words


class ShortnessPenalty:
    """-max(0, words - n) / divisor for a completion of n words: a floor under the length.

    RL on texts pays KL per token while short texts score as extreme as long ones, so an unguarded
    policy first gets short. Add this with weight 1 to a reward in standard deviations.

    :param words: from this many words on the penalty is 0.
    :param divisor: missing words that cost 1.
    :raises InputError: if either is not positive.
    """

    name = "shortness"

    def __init__(self, words: float = 14, divisor: float = 7) -> None:
        self.words, self.divisor = _above_zero(words, divisor)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: a float in [-words / divisor, 0] per completion."""
        return [
            0.0 - max(0.0, self.words - count_words(text)) / self.divisor for text in completions
        ]


class OverlongPenalty:
    """-min(1, max(0, words of the completion - words) / divisor): a soft ceiling over the length.

    The overlong punishment of DAPO (Yu et al. 2025, eq. 13) in words: nothing up to `words`, then
    falling, and -1 from `words + divisor` on.

    :param words: up to this many words the penalty is 0.
    :param divisor: words too many that cost 1.
    :raises InputError: if either is not positive.
    """

    name = "overlong"

    def __init__(self, words: float = 40, divisor: float = 10) -> None:
        self.words, self.divisor = _above_zero(words, divisor)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: a float in [-1, 0] per completion."""
        return [
            0.0 - min(1.0, max(0.0, count_words(text) - self.words) / self.divisor)
            for text in completions
        ]


def _above_zero(words: float, divisor: float) -> tuple[float, float]:
    if not (words > 0 and divisor > 0):
        raise InputError(f"words and divisor must be above 0, got {words} and {divisor}")
    return words, divisor
