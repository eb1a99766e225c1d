"""Verse: do the lines rhyme, and have they the wanted number of syllables?"""

import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.rules.columns import texts_to_score
from textgym.text_metrics.syllables import count_syllables, read_pronunciations, rhyme_part
from textgym.text_metrics.words import split_words


def verse_lines(text: str, line_ends: str = "") -> list[list[str]]:
    """The lines of a poem that hold a word, as words in lower case.

    :param line_ends: characters that end a line beside the line's own end, such as "，。".
    """
    parts = re.split(f"[\n{re.escape(line_ends)}]", text)
    return [words for words in map(split_words, parts) if words]


class Rhyme:
    """The share of line pairs that are to rhyme and do, in [0, 1].

    Words that end lines of one letter of the scheme are to rhyme; the same word twice does not. A
    poem longer than the scheme begins it anew with new letters. One that is shorter lacks the pairs
    of the lines that are missing. "-" is a line that rhymes with none.

    :param scheme: such as "AABB", "ABAB", "AABBA" or "-A-A".
    :param dictionary: a file as CMUdict has it (`read_pronunciations`); without it, or for words
        that it does not hold, spelling decides: English only, and roughly.
    :param line_ends: characters that end a line beside the line's own end.
    :param include_prompt: the prompt's lines are part of the poem.
    :raises InputError: for a scheme without a pair, or a dictionary that is none.
    """

    name = "rhyme"

    def __init__(
        self,
        scheme: str = "AABB",
        *,
        dictionary: str | Path | None = None,
        line_ends: str = "",
        include_prompt: bool = False,
    ) -> None:
        pairs = [
            (first, second)
            for first, second in combinations(range(len(scheme)), 2)
            if scheme[first] == scheme[second] != "-"
        ]
        if not pairs or not all(letter.isalpha() or letter == "-" for letter in scheme):
            raise InputError(
                f"scheme must be letters of which one comes twice, such as ABAB, got {scheme!r}"
            )
        self.scheme, self._pairs = scheme, pairs
        self._pronunciations = None if dictionary is None else read_pronunciations(dictionary)
        self.line_ends, self.include_prompt = line_ends, include_prompt

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [0, 1] per completion."""
        texts = texts_to_score(self.name, prompts, completions, self.include_prompt)
        return [self.score(text) for text in texts]

    def score(self, text: str) -> float:
        """Pairs that rhyme / pairs that are to rhyme; 0 for a text without a line."""
        ends = [words[-1] for words in verse_lines(text, self.line_ends)]
        stanzas = max(1, -(-len(ends) // len(self.scheme)))
        wanted = found = 0
        for start in range(0, stanzas * len(self.scheme), len(self.scheme)):
            for first, second in self._pairs:
                wanted += 1
                is_there = start + second < len(ends)
                found += is_there and self.rhymes(ends[start + first], ends[start + second])
        return found / wanted

    def rhymes(self, one: str, other: str) -> bool:
        """Whether two words rhyme. :param one, other: in lower case."""
        part = rhyme_part(one, self._pronunciations)
        return one != other and part != "" and part == rhyme_part(other, self._pronunciations)


class Syllables:
    """How near each line is to its number of syllables, in [0, 1].

    A line of n syllables where w are wanted scores max(0, 1 - |n - w| / w); a line too few or too
    many scores 0; the poem's score is the mean over its lines, or over those wanted if they are
    more. A Chinese or Japanese character is one syllable.

    :param pattern: numbers with "-" between them: "5-7-5" is a haiku, "5-5-5-5" a quatrain.
    :param dictionary: as `Rhyme`'s; without it syllables are counted by English spelling.
    :param line_ends: characters that end a line beside the line's own end: "，。" for Chinese.
    :param include_prompt: the prompt's lines are part of the poem.
    :raises InputError: for a pattern of another form, or a dictionary that is none.
    """

    name = "syllables"

    def __init__(
        self,
        pattern: str = "5-7-5",
        *,
        dictionary: str | Path | None = None,
        line_ends: str = "",
        include_prompt: bool = False,
    ) -> None:
        if not re.fullmatch(r"[1-9][0-9]{0,3}(-[1-9][0-9]{0,3})*", str(pattern)):
            raise InputError(
                f"pattern must be syllables a line with - between them, such as 5-7-5, got "
                f"{pattern!r}"
            )
        self.pattern = [int(number) for number in str(pattern).split("-")]
        self._pronunciations = None if dictionary is None else read_pronunciations(dictionary)
        self.line_ends, self.include_prompt = line_ends, include_prompt

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [0, 1] per completion."""
        texts = texts_to_score(self.name, prompts, completions, self.include_prompt)
        return [self.score(text) for text in texts]

    def score(self, text: str) -> float:
        """The score of one poem."""
        lines = verse_lines(text, self.line_ends)
        counts = [sum(count_syllables(w, self._pronunciations) for w in words) for words in lines]
        total = sum(
            max(0.0, 1.0 - abs(count - wanted) / wanted)
            for count, wanted in zip(counts, self.pattern, strict=False)
        )
        return total / max(len(counts), len(self.pattern))
