"""Rule rewards: length, regular expression, keyword, repetition.

Each is an object with a `name` and the reward contract's `__call__`; each scores a text by itself,
so batches and their order change nothing. All of them look at the completion only.
"""

import math
import re
from collections.abc import Sequence
from typing import Any, Literal

from textgym.errors import InputError
from textgym.reward_models.rules.columns import check_texts, column_values, needed
from textgym.text_metrics.metrics import repetition
from textgym.text_metrics.words import (
    contains_phrase,
    count_characters,
    count_words,
    split_words,
)

Unit = Literal["words", "characters"]


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise InputError(f"{name} must be above 0, got {value!r}: pass a positive number")
    return value


class Length:
    """1 at the target length, falling off linearly: max(-1, 1 - |n - target| / scale).

    :param target: the wanted length in units, above 0.
    :param unit: "words" (a Chinese character counts as a word) or "characters" (code
        points, a letter with its combining marks as one; spaces at the two ends not counted).
    :param scale: units off the target at which the score is 0; default: the target itself.
    :raises InputError: for a target or scale that is not positive, or an unknown unit.
    """

    name = "length"

    def __init__(
        self, target: float = 20, unit: Unit = "words", scale: float | None = None
    ) -> None:
        self.target = _positive("target", target)
        self.scale = _positive("scale", target if scale is None else scale)
        if unit not in ("words", "characters"):
            raise InputError(f'unit must be "words" or "characters", got {unit!r}')
        self.unit = unit

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [-1, 1] per completion."""
        check_texts(self.name, prompts, completions)
        lengths = [
            count_words(text) if self.unit == "words" else count_characters(text.strip())
            for text in completions
        ]
        return [max(-1.0, 1.0 - abs(n - self.target) / self.scale) for n in lengths]


class Regex:
    """`match` where the pattern matches the completion, `miss` elsewhere.

    :param pattern: a Python regular expression.
    :param full: match the whole completion (spaces at its ends removed) instead of any place in it.
    :param ignore_case: letters match in either case.
    :raises InputError: if the pattern does not compile.
    """

    name = "regex"

    def __init__(
        self,
        pattern: str,
        *,
        full: bool = False,
        ignore_case: bool = False,
        match: float = 1.0,
        miss: float = 0.0,
    ) -> None:
        try:
            self.pattern = re.compile(pattern, re.IGNORECASE if ignore_case else 0)
        except re.error as error:
            raise InputError(f"pattern {pattern!r} is not a regular expression: {error}") from None
        if not (math.isfinite(match) and math.isfinite(miss)):
            raise InputError(f"match and miss must be finite numbers, got {match!r} and {miss!r}")
        self.full, self.match, self.miss = full, match, miss

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: `match` or `miss` per completion."""
        check_texts(self.name, prompts, completions)
        scores = []
        for text in completions:
            found = self.pattern.fullmatch(text.strip()) if self.full else self.pattern.search(text)
            scores.append(self.miss if found is None else self.match)
        return scores


class Keyword:
    """The share of the wanted words (or phrases) that occur in the completion, in [0, 1].

    A word counts as a whole word in any case: "art" is not found in "party". In scripts without
    spaces it counts wherever its characters stand in a row.

    :param words: the wanted words, the same for every prompt (a string is one word or phrase).
        None: each prompt brings its own in the column `column`, as a string or a list of strings.
    :param column: the column's name.
    :raises InputError: if `words` is empty or holds something without a letter or digit.
    """

    name = "keyword"

    def __init__(
        self, words: str | Sequence[str] | None = None, *, column: str = "keyword"
    ) -> None:
        self.column = column
        self._phrases = None if words is None else self._split(words)

    @staticmethod
    def _split(words: str | Sequence[str]) -> list[list[str]]:
        listed = [words] if isinstance(words, str) else words
        is_list = isinstance(listed, Sequence | set | frozenset)
        if not is_list or not all(isinstance(word, str) for word in listed):
            raise InputError("expected a word, a phrase or a list of them: fill it in")
        phrases = [split_words(word) for word in listed]
        if not phrases or not all(phrases):
            raise InputError(
                f"keywords must be words with a letter or digit, got {words!r}: pass at least one"
            )
        return phrases

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The column, where nothing is given for all rows."""
        return needed(self.column, self._phrases)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: found / wanted per completion.

        :raises RewardError: naming the prompt, if the column is missing, or holds no word.
        """
        check_texts(self.name, prompts, completions)
        wanted = column_values(
            self.name,
            prompts,
            completions,
            columns,
            self.column,
            self._split,
            fixed=self._phrases,
            instead="words",
        )
        scores = []
        for text, phrases in zip(completions, wanted, strict=True):
            words = split_words(text)
            found = sum(contains_phrase(words, phrase) for phrase in phrases)
            scores.append(found / len(phrases))
        return scores


class Repetition:
    """Minus the share of n-grams that repeat an earlier one of the same completion, in (-1, 0].

    Words where the script has them, characters where it has not (Chinese). 0 if there are fewer
    than `n` words.

    :param n: words (or characters) in an n-gram, at least 1.
    :raises InputError: if `n` is below 1.
    """

    name = "repetition"

    def __init__(self, n: int = 2) -> None:
        self.n = int(_positive("n", n))

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: -repetition(text, n) per completion."""
        check_texts(self.name, prompts, completions)
        return [0.0 - repetition(text, self.n) for text in completions]
