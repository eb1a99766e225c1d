"""Regulated quatrains (五絕, 七絕): form, rhyme and tone pattern of recent-style verse.

Four lines of five or seven characters; lines 2 and 4 rhyme on a level tone; in each line the tones
of characters 2, 4 (and 6) alternate, lines of a couplet are opposed (對), and line 3 takes up
line 2 (黏). After Wang Li, "Prosody of Chinese Verse" (王力《漢語詩律學》, 1958). Rhymes and tones
are those of the Pingshui table (`pingshui`), in traditional and simplified characters. A character
that is not in it neither rhymes nor fits a tone.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from textgym.errors import InputError
from textgym.reward_answers import RewardOutput
from textgym.reward_models.rules.columns import texts_to_score
from textgym.reward_models.rules.pingshui import readings

LINES = 4
SYLLABLES = (5, 7)
RHYMING = (1, 3)  # lines 2 and 4, counted from 0
_INNER, _FINAL = "，,、；;", "。.！!？?"  # marks that end lines 1 and 3, and lines 2 and 4
_LINE = re.compile(f"([^{_INNER}{_FINAL}\n]*)([{_INNER}{_FINAL}\n]|$)")
_CHINESE = re.compile("[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")
# Is the second character level? A line's fourth is its opposite, its sixth is like the second.
_STARTS = ((True, False, False, True), (False, True, True, False))
_ENDS = (None, True, False, True)  # is a line's last character level? The first may be either


def quatrain_lines(text: str) -> list[tuple[str, str]]:
    """The lines of a poem, each with the mark that ends it ("" at the text's end).

    White space inside a line is dropped, as are empty lines without a mark of their own.
    """
    lines: list[tuple[str, str]] = []
    for line, mark in _LINE.findall(text):
        line = "".join(line.split())
        if line or mark not in ("", "\n"):
            lines.append((line, mark))
    return lines


def form_score(text: str, syllables: Sequence[int] = SYLLABLES) -> float:
    """The share of the form that is kept, in [0, 1].

    Eight things are asked for: four lines of n Chinese characters and nothing else, and after each
    its mark: a comma after lines 1 and 3, a full stop, question or exclamation mark after 2 and 4.
    Each line too many adds two that are not kept. Of several n the best counts.
    """
    lines = quatrain_lines(text)
    marks = sum(
        mark != "" and mark in (_FINAL if place in RHYMING else _INNER)
        for place, (_, mark) in enumerate(lines[:LINES])
    )
    most = max(
        sum(len(line) == n and _CHINESE.fullmatch(line) is not None for line, _ in lines[:LINES])
        for n in syllables
    )
    return (most + marks) / (2 * max(LINES, len(lines)))


def rhyme_score(text: str, first: bool = False) -> float:
    """Half for level tones where the poem rhymes, half for the rhyme, in [0, 1].

    Of the k lines that are to rhyme (2 and 4, with `first` 1 too), the share that ends on a
    character with a level reading counts half. If m different last characters share one level
    rhyme, (m - 1) / (k - 1) counts the other half: a character does not rhyme with itself.
    """
    lines = quatrain_lines(text)
    places = (0, *RHYMING) if first else RHYMING
    ends = [lines[place][0][-1:] for place in places if place < len(lines)]
    level = [readings(end).level for end in ends]
    by_rhyme: dict[str, set[str]] = {}
    for end, rhymes in zip(ends, level, strict=True):
        for rhyme in rhymes:
            by_rhyme.setdefault(rhyme, set()).add(end)
    most = max(map(len, by_rhyme.values()), default=1)
    return sum(map(bool, level)) / len(places) / 2 + (most - 1) / (len(places) - 1) / 2


def tone_score(text: str, syllables: Sequence[int] = SYLLABLES) -> float:
    """The share of tones that agree with the nearest regulated pattern, in [0, 1].

    There are two patterns, by the tone of the second character. Asked about are characters 2, 4
    (and 6) of each line and the last of lines 2 (level), 3 (oblique) and 4 (level): 11 or 15. A
    character of both tones agrees with either; those of a line that is missing or of another length
    do not agree. Not asked about: characters 1, 3 (and 5), and so neither a lone level tone (孤平)
    nor three level ones at the end (三平尾).
    """
    lines = [line for line, _ in quatrain_lines(text)[:LINES]]
    return max(_agreement(lines, n, start) for n in syllables for start in _STARTS)


def _agreement(lines: Sequence[str], n: int, start: Sequence[bool]) -> float:
    """`tone_score` for lines of n characters and one pattern."""
    inner = range(1, n - 1, 2)
    found = 0
    for line, is_level, end in zip(lines, start, _ENDS, strict=False):
        if len(line) != n:
            continue
        found += sum(_has_tone(line[k], is_level ^ (k % 4 == 3)) for k in inner)
        found += end is not None and _has_tone(line[-1], end)
    return found / (LINES * len(inner) + LINES - 1)


def _has_tone(character: str, is_level: bool) -> bool:
    level, is_oblique = readings(character)
    return bool(level) if is_level else is_oblique


class _OfQuatrains(ABC):
    """What the rewards of quatrains share: each text is scored by itself."""

    name: str
    include_prompt: bool

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [0, 1] per completion."""
        texts = texts_to_score(self.name, prompts, completions, self.include_prompt)
        return [self.score(text) for text in texts]

    @abstractmethod
    def score(self, text: str) -> float:
        """The score of one poem."""


class QuatrainForm(_OfQuatrains):
    """How much of a quatrain's form is kept, in [0, 1]; see `form_score`.

    :param syllables: characters a line, 5 or 7; 0: whichever fits better.
    :param include_prompt: the prompt's lines are part of the poem.
    :raises InputError: for another number of syllables.
    """

    name = "quatrain_form"

    def __init__(self, syllables: int = 0, *, include_prompt: bool = False) -> None:
        self.syllables, self.include_prompt = syllables, include_prompt
        self._lengths = _lengths(syllables)

    def score(self, text: str) -> float:
        """The score of one poem."""
        return form_score(text, self._lengths)


class QuatrainRhyme(_OfQuatrains):
    """Do lines 2 and 4 of a quatrain rhyme, on a level tone? In [0, 1]; see `rhyme_score`.

    :param first: line 1 is to rhyme, too.
    :param include_prompt: the prompt's lines are part of the poem.
    """

    name = "quatrain_rhyme"

    def __init__(self, first: bool = False, *, include_prompt: bool = False) -> None:
        self.first, self.include_prompt = first, include_prompt

    def score(self, text: str) -> float:
        """The score of one poem."""
        return rhyme_score(text, self.first)


class QuatrainTones(_OfQuatrains):
    """How much of the nearest tone pattern (平仄) is kept, in [0, 1]; see `tone_score`.

    :param syllables: characters a line, 5 or 7; 0: whichever fits better.
    :param include_prompt: the prompt's lines are part of the poem.
    :raises InputError: for another number of syllables.
    """

    name = "quatrain_tones"

    def __init__(self, syllables: int = 0, *, include_prompt: bool = False) -> None:
        self.syllables, self.include_prompt = syllables, include_prompt
        self._lengths = _lengths(syllables)

    def score(self, text: str) -> float:
        """The score of one poem."""
        return tone_score(text, self._lengths)


class Quatrain:
    """The mean of form, rhyme and tones, in [0, 1], with the three as components.

    :param syllables: characters a line, 5 or 7; 0: whichever fits better.
    :param include_prompt: the prompt's lines are part of the poem.
    :raises InputError: for another number of syllables.
    """

    name = "quatrain"

    def __init__(self, syllables: int = 0, *, include_prompt: bool = False) -> None:
        self.syllables, self.include_prompt = syllables, include_prompt
        self._lengths = _lengths(syllables)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> RewardOutput:
        """:returns: scores in [0, 1], and the components `form`, `rhyme` and `tones`."""
        texts = texts_to_score(self.name, prompts, completions, self.include_prompt)
        components = {
            "form": [form_score(text, self._lengths) for text in texts],
            "rhyme": [rhyme_score(text) for text in texts],
            "tones": [tone_score(text, self._lengths) for text in texts],
        }
        scores = [sum(row) / len(row) for row in zip(*components.values(), strict=True)]
        return RewardOutput(scores, components)


def _lengths(syllables: int) -> Sequence[int]:
    if syllables not in (0, *SYLLABLES):
        raise InputError(
            f"syllables must be 5 or 7, or 0 for whichever fits better, got {syllables!r}"
        )
    return (syllables,) if syllables else SYLLABLES
