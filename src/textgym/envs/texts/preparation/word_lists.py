"""Lists of words that users bring along, and those that come with the package.

Bundled: stop words, and synonyms from WordNet (envs/data/LICENSES.md says whose they are).
"""

import gzip
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from textgym.envs.texts.records import read_lines
from textgym.errors import InputError
from textgym.storage import require_regular_file

STOP_WORD_LANGUAGES = ("en", "zh")


def word_lines(path: Path, what: str) -> Iterator[tuple[int, str]]:
    """The lines of a list of words that hold something, each with its number; `#` starts a remark.

    :param what: the list holds, for errors: "stop words".
    :raises InputError: for a file that is no text (UTF-8), or holds no word.
    """
    is_empty = True
    for number, line in read_lines(require_regular_file(path)):
        if "\0" in line:
            raise InputError(f"{path}, line {number}: expected {what} as text, found a NUL")
        text = line.strip()
        if text and not text.startswith("#"):
            is_empty = False
            yield number, text
    if is_empty:
        raise InputError(f"{path}: expected {what}, one a line, found none")


def stop_words(language: str) -> frozenset[str]:
    """The bundled stop words of a language, in lower case.

    :param language: "en" (108 words) or "zh" (78, single simplified characters).
    """
    text = _data(f"stop_words_{language}.txt").decode("utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("#"))


def read_stop_words(path: Path) -> frozenset[str]:
    """A user's stop words, one a line, in lower case.

    :raises InputError: see `word_lines`.
    """
    return frozenset(line.lower() for _, line in word_lines(path, "stop words"))


def wordnet_synonyms() -> dict[str, tuple[str, ...]]:
    """Synonyms of 38,851 English words: those of each word's commonest meanings in WordNet 3.0."""
    return dict(_entries(gzip.decompress(_data("wordnet_synonyms.txt.gz")).decode("utf-8")))


def read_synonyms(path: Path) -> dict[str, tuple[str, ...]]:
    """A user's synonyms: a line has a word, a tab, and its synonyms with spaces between.

    :raises InputError: see `word_lines`; or a line without a tab.
    """
    table: dict[str, tuple[str, ...]] = {}
    for number, line in word_lines(path, "synonyms"):
        word, _, rest = line.partition("\t")
        others = tuple(rest.split())
        if not word.strip() or not others:
            raise InputError(
                f"{path}, line {number}: expected a word, a tab and its synonyms, got {line!r:.60}"
            )
        table[word.strip().lower()] = others
    return table


def read_dictionary(path: Path) -> list[tuple[str, int | None, str | None]]:
    """A user's dictionary in jieba's format: a word a line, then perhaps a frequency and a tag.

    :raises InputError: see `word_lines`; or a frequency that is no whole number.
    """
    entries: list[tuple[str, int | None, str | None]] = []
    for number, line in word_lines(path, "words of a dictionary"):
        word, *rest = line.split()
        frequency = int(rest.pop(0)) if rest and rest[0].isascii() and rest[0].isdigit() else None
        if len(rest) > 1 or (frequency is not None and frequency > 10**9):
            raise InputError(
                f"{path}, line {number}: expected WORD [FREQUENCY [TAG]], got {line!r:.60}"
            )
        entries.append((word, frequency, rest[0] if rest else None))
    return entries


def _entries(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in text.splitlines():
        word, _, rest = line.partition("\t")
        yield word, tuple(rest.split())


def _data(name: str) -> bytes:
    return (resources.files("textgym.envs") / "data" / name).read_bytes()
