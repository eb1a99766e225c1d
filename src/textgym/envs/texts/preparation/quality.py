"""A step that removes texts which are hardly language, by simple rules that have names."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textgym.envs.texts.preparation.rows import Row, StepCount
from textgym.envs.texts.preparation.step import Step
from textgym.text_metrics.words import split_words

WORDS_TO_JUDGE = 10  # a text of fewer says nothing about repetition
_RUN = re.compile(r"(\S)\1+")


@dataclass(frozen=True)
class Quality(Step):
    """Removes texts that are hardly language, each by the first named rule that it breaks.

    After Rae et al. 2021 ("Scaling Language Models", appendix A), with shares of characters so
    that the rules mean something in Chinese too. A limit of 0 (least) or 1 (most) rules nothing.

    :param min_letters: least share of letters among what is no white space.
    :param max_symbols: most share of symbols (`$ + < ^ ~ ©` and emoji) among it.
    :param max_digits: most share of digits among it.
    :param max_run: most times that one character stands in a row, white space aside.
    :param max_repeated_lines: most share of lines that stand in the text already.
    :param max_repeated_words: most share that a single word has in a text of at least 10.
    """

    key: ClassVar[str] = "quality"
    min_letters: float = 0.5
    max_symbols: float = 0.2
    max_digits: float = 0.3
    max_run: int = 20
    max_repeated_lines: float = 0.3
    max_repeated_words: float = 0.3

    def __post_init__(self) -> None:
        shares = "min_letters max_symbols max_digits max_repeated_lines max_repeated_words"
        for name in shares.split():
            self._require(name, 0, 1)
        self._require("max_run", 1, 10**12, is_whole=True)

    def apply(self, rows: Iterator[Row], count: StepCount) -> Iterator[Row]:
        """See `Step.apply`."""
        for row in rows:
            reason = self.broken_rule(row.text)
            if reason:
                count.remove(row, reason)
            else:
                yield row

    def broken_rule(self, text: str) -> str:
        """The first rule that a text breaks, or ""."""
        shares = _shares(text)
        if shares["letter"] < self.min_letters:
            return "few letters"
        if shares["symbol"] > self.max_symbols:
            return "many symbols"
        if shares["digit"] > self.max_digits:
            return "many digits"
        if _longest_run(text) > self.max_run:
            return "a long run of one character"
        if _repeated(text.splitlines()) > self.max_repeated_lines:
            return "repeated lines"
        if self.max_repeated_words < 1 and _top_share(text) > self.max_repeated_words:
            return "repeated words"
        return ""


def _shares(text: str) -> dict[str, float]:
    """Share of letters (with their marks), digits and symbols among what is no white space."""
    found = {"letter": 0, "digit": 0, "symbol": 0}
    total = 0
    for character, times in Counter(text).items():
        if character.isspace():
            continue
        total += times
        category = unicodedata.category(character)[0]
        kind = {"L": "letter", "M": "letter", "N": "digit", "S": "symbol"}.get(category)
        if kind:
            found[kind] += times
    return {kind: times / max(total, 1) for kind, times in found.items()}


def _longest_run(text: str) -> int:
    """Most times that one character stands in a row, white space aside."""
    return max((len(match[0]) for match in _RUN.finditer(text)), default=1)


def _repeated(lines: Sequence[str]) -> float:
    """Share of the lines with a text that stand before already."""
    filled = [line.strip() for line in lines if line.strip()]
    return 1 - len(set(filled)) / len(filled) if filled else 0.0


def _top_share(text: str) -> float:
    """Share of the commonest word; 0 for a text of few words."""
    words = split_words(text)
    if len(words) < WORDS_TO_JUDGE:
        return 0.0
    return max(Counter(words).values()) / len(words)
