"""Word segmentation, Chinese and otherwise, and stop words.

Runs of Chinese characters are cut by jieba's dictionary and model (`rjieba`: jieba-rs), everything
else by the rule of `textgym.text_metrics.words`.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from textgym.envs.texts.preparation.step import TextFunction, TextStep
from textgym.envs.texts.preparation.word_lists import (
    STOP_WORD_LANGUAGES,
    read_dictionary,
    read_stop_words,
    stop_words,
)
from textgym.errors import InputError, unknown_name
from textgym.extras import import_extra
from textgym.text_metrics.words import word_pieces

_HAN = re.compile("[\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


class Segmenter:
    """Cuts texts into words.

    :param dictionary: words that Chinese is to be cut into beside those that jieba knows; see
        `read_dictionary`.
    :param characters: Chinese is cut into characters instead, for which no library is needed.
    :raises InputError: for a dictionary that is none.
    """

    def __init__(self, dictionary: str | Path | None = None, *, characters: bool = False) -> None:
        self._words = [] if dictionary is None else read_dictionary(Path(dictionary))
        self._characters = characters
        self._jieba: Any = None

    def pieces(self, text: str) -> list[str]:
        """The text cut into words and what stands between; end to end, they are the text again.

        :raises InputError: where the text is Chinese and `rjieba` is not installed.
        """
        pieces: list[str] = []
        end = 0
        for match in () if self._characters or text.isascii() else _HAN.finditer(text):
            pieces += word_pieces(text[end : match.start()])
            pieces += self._chinese(match[0])
            end = match.end()
        return pieces + word_pieces(text[end:])

    def words(self, text: str) -> list[str]:
        """Words and marks of punctuation, without white space.

        >>> Segmenter().words("Don't blink: 我喜欢苹果手机。")
        ["Don't", 'blink', ':', '我', '喜欢', '苹果', '手机', '。']
        """
        return [part for piece in self.pieces(text) for part in piece.split()]

    def _chinese(self, text: str) -> Iterable[str]:
        if self._jieba is None:  # which takes a second, and not every text needs it
            rjieba = import_extra("rjieba", extra="prepare", what="segmenting Chinese words")
            self._jieba = rjieba.Jieba()
            for word, frequency, tag in self._words:
                self._jieba.add_word(word, frequency, tag)
        return self._jieba.cut(text)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Segment(TextStep):
    """Cuts texts into words, with one space between them; line breaks stay.

    :param dictionary: a file of words in jieba's format (WORD [FREQUENCY [TAG]]).
    :param characters: Chinese is cut into characters, without a library.
    :param punctuation: whether marks of punctuation stay, as words of their own.
    """

    key: ClassVar[str] = "segment"
    dictionary: Path | None = None
    characters: bool = False
    punctuation: bool = True

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        segmenter = Segmenter(self.dictionary, characters=self.characters)

        def segmented(text: str) -> str:
            return "\n".join(" ".join(map(str, self._kept(segmenter, t))) for t in text.split("\n"))

        return segmented

    def _kept(self, segmenter: Segmenter, text: str) -> list[str]:
        words = segmenter.words(text)
        if self.punctuation:
            return words
        return [word for word in words if any(map(str.isalnum, word))]


@dataclass(frozen=True)
class StopWords(TextStep):
    """Removes stop words from segmented texts, whatever their case.

    :param language: of the bundled lists: "en", "zh" or "en+zh"; "" for `words` alone.
    :param words: a file of further ones, one a line.
    """

    key: ClassVar[str] = "stop_words"
    language: str = "en+zh"
    words: Path | None = None

    def __post_init__(self) -> None:
        for code in filter(None, self.language.split("+")):
            if code not in STOP_WORD_LANGUAGES:
                raise unknown_name("language of stop words", code, STOP_WORD_LANGUAGES)
        if not self.language and self.words is None:
            raise InputError("stop_words: expected a language ('en+zh') or words=FILE, got neither")

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        lists = [stop_words(code) for code in filter(None, self.language.split("+"))]
        if self.words is not None:
            lists.append(read_stop_words(self.words))
        unwanted = frozenset().union(*lists)

        def line(text: str) -> str:
            return " ".join(word for word in text.split() if word.lower() not in unwanted)

        return lambda text: "\n".join(filter(None, map(line, text.split("\n"))))
