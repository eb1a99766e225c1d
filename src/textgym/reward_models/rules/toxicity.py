"""A penalty on toxic words: a word list of the user's, or a short one that comes with textgym."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.paths import expand
from textgym.reward_models.rules.columns import check_texts
from textgym.storage import read_small_file
from textgym.text_metrics.words import split_words


class Toxicity:
    """-min(1, toxic words / limit), in [-1, 0]: 0 without one.

    Whole words in any case; "scunthorpe" holds none. A list's entry may be several words, and one
    that ends in * stands for all words that begin so. In scripts without spaces an entry counts
    wherever its characters stand in a row. A word list knows no irony, no quotation and no insult
    made of harmless words: it is a fence, not a judge.

    :param path: a word list, one entry a line, UTF-8; lines that start with "# " are comments.
        Default: textgym's own short list of English and Chinese swear words and insults.
    :param limit: from this many on the score is -1.
    :raises InputError: for a limit below 1, or a list that cannot be read or holds no word.
    """

    name = "toxicity"

    def __init__(self, path: str | Path | None = None, *, limit: int = 2) -> None:
        if limit < 1:
            raise InputError(f"limit must be 1 or above, got {limit!r}")
        self.limit = limit
        self._phrases, self._starts = bundled_words() if path is None else read_word_list(path)
        self._longest = max((len(phrase) for phrase in self._phrases), default=0)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [-1, 0] per completion."""
        check_texts(self.name, prompts, completions)
        return [0.0 - min(1.0, self.count(text) / self.limit) for text in completions]

    def count(self, text: str) -> int:
        """Toxic words and phrases of a text; of two that begin at one word the longer counts."""
        words, found, place = split_words(text), 0, 0
        while place < len(words):
            length = self._at(words, place)
            found += length > 0
            place += max(1, length)
        return found

    def _at(self, words: list[str], place: int) -> int:
        """Words of the entry that begins at a place; 0 where none does."""
        for length in range(min(self._longest, len(words) - place), 0, -1):
            if tuple(words[place : place + length]) in self._phrases:
                return length
        return int(words[place].startswith(self._starts)) if self._starts else 0


WordList = tuple[Collection[tuple[str, ...]], tuple[str, ...]]


@lru_cache(maxsize=1)
def bundled_words() -> WordList:
    """textgym's own list; read once."""
    resource = files("textgym.reward_models").joinpath("data/toxic_words.txt")
    return _parse(resource.read_text(encoding="utf-8"), resource.name)


def read_word_list(path: str | Path) -> WordList:
    """Phrases as tuples of words, and the beginnings that entries with a * stand for.

    :raises InputError: naming file and line for an entry without a word, or an unreadable file.
    """
    path = expand(path)
    try:
        text = read_small_file(path)
    except InputError as error:
        raise InputError(f"cannot read the word list: {error}") from None
    return _parse(text.removeprefix("\ufeff"), str(path))


def _parse(text: str, source: str) -> WordList:
    phrases: set[tuple[str, ...]] = set()
    starts: set[str] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if not entry or entry.startswith("# "):
            continue
        words = split_words(entry)
        if not words or (entry.endswith("*") and len(words) > 1):
            raise InputError(
                f"{source}, line {number}: expected a word, a phrase, or the beginning of one word "
                f"with a * behind it, got {entry[:40]!r}"
            )
        if entry.endswith("*"):
            starts.add(words[0])
        else:
            phrases.add(tuple(words))
    if not phrases and not starts:
        raise InputError(f"{source} holds no word: give one a line")
    return frozenset(phrases), tuple(sorted(starts))
