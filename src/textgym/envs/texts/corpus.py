"""Corpora of the user's own, streamed from disk.

Formats: .txt (one text a line, or one a paragraph), .jsonl and .csv, each also as .gz, in UTF-8.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from textgym.envs.texts.labelled_rows import Rows
from textgym.envs.texts.records import (
    MAX_LINE_BYTES,
    SUFFIXES,
    Lines,
    given_record,
    given_rows,
    read_lines,
    read_records,
    text_column,
    text_format,
)
from textgym.errors import InputError
from textgym.near_copies import NearCopies, equal_text_groups, text_key
from textgym.paths import expand
from textgym.splits import split_rows

T = TypeVar("T")

IN_MEMORY = 20_000  # texts of a corpus that is divided exactly


class TextFiles:
    """The texts of one or more files, read anew on each iteration; see `read_texts`."""

    def __init__(self, paths: Sequence[Path], column: str, paragraphs: bool) -> None:
        self._paths = tuple(paths)
        self._column = column
        self._paragraphs = paragraphs

    def __iter__(self) -> Iterator[str]:
        """:raises InputError: a bad file (with its line), or no text in any of them."""
        is_empty = True
        for path in self._paths:
            for text in _file_texts(path, self._column, self._paragraphs):
                is_empty = False
                yield text
        if is_empty:
            names = ", ".join(map(str, self._paths))
            raise InputError(f"{names}: expected at least one text, found none")


class GivenTexts:
    """Texts that were given in Python, blank ones skipped, read anew on each iteration.

    :param rows: texts, or mappings with the text in `column`.
    """

    def __init__(self, rows: Rows, column: str) -> None:
        checked = given_rows(rows, "corpus")
        self._rows = list(checked) if isinstance(rows, Iterator) else rows
        self._column = column

    def __iter__(self) -> Iterator[str]:
        """:raises InputError: for a bad row, or where there is no text."""
        is_empty = True
        for index, row in enumerate(given_rows(self._rows, "corpus")):
            values = {self._column: row} if isinstance(row, str) else row
            record = given_record(values, index, self._rows)
            text = text_column(record, self._column, self._rows)
            if text.strip():
                is_empty = False
                yield text
        if is_empty:
            raise InputError("corpus: expected at least one text, found none in the rows given")


def read_texts(
    paths: Rows, *, column: str = "text", paragraphs: bool = False
) -> TextFiles | GivenTexts:
    """The texts of a corpus, one in memory at a time; blank ones are skipped.

    :param paths: files; or rows given in Python: a list of texts, or a list or dataset of mappings.
        Strings are files where one of them ends as a file of a corpus does, exists, or where none
        has a space.
    :param column: the column of .jsonl and .csv files, and of mappings, that holds the text.
    :param paragraphs: in .txt files, a text ends at a blank line rather than at each line's end.
    :raises InputError: no path, no such file, or an unknown suffix; the contents are checked as
        they are read.
    """
    if not are_files(paths):
        return GivenTexts(paths, column)
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [expand(path) for path in given]
    if not files:
        raise InputError("expected the path of a corpus, got an empty list")
    for path in files:
        text_format(path)
    return TextFiles(files, column, paragraphs)


def are_files(source: Rows) -> bool:
    """Whether a corpus was given as files, and not as rows."""
    if isinstance(source, str | Path):
        return True
    if not isinstance(source, list | tuple) or not all(isinstance(s, str | Path) for s in source):
        return False
    if any(isinstance(name, Path) or _is_file_name(name) for name in source):
        return True
    return not any(" " in text for text in source)


def files_of(source: Rows) -> Rows | None:
    """A source that is files, as it is; None for rows given in Python."""
    return source if are_files(source) else None


def _is_file_name(text: str) -> bool:
    """Whether a string ends as the name of a corpus does, or is a file's."""
    if len(text) > 255 or "\n" in text or "\0" in text:
        return False
    return text.lower().removesuffix(".gz").endswith(SUFFIXES) or Path(text).is_file()


def split_heldout(
    texts: Iterable[str],
    fraction: float,
    seed: int,
    *,
    in_memory: int = IN_MEMORY,
    report: Callable[[str], None] | None = None,
) -> tuple[Iterable[str], Iterable[str]]:
    """(training texts, held-out texts), with copies of a text on one side.

    Up to `in_memory` texts are read at once and divided exactly: `fraction` of them, at least one,
    and near-copies stay together (`textgym.splits`). A longer corpus is streamed, and each text's
    side is a hash of its letters and digits (see `is_heldout`): the share is then about `fraction`,
    and a text stays held out when the corpus grows. Near-copies of held-out texts are left out of
    the training texts, which reads the corpus once more.

    :param fraction: the share of held-out texts, 0 to 1.
    :param in_memory: texts, 0 to stream every corpus.
    :param report: gets a line where near-copies had to be divided, or were left out.
    :raises InputError: `fraction` outside 0 to 1, or `texts` can be read only once.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"expected a held-out fraction from 0 to 1, got {fraction}")
    if iter(texts) is texts:
        raise InputError("expected texts to read twice (a list, read_texts), got an iterator")
    whole = _whole(texts, in_memory) if 0 < fraction < 1 else None
    if whole is not None:
        return _divided(whole, fraction, seed, report)
    held = _Selected(texts, lambda text: is_heldout(text, fraction, seed))
    return _Apart(texts, held, report), held


def _whole(texts: Iterable[str], limit: int) -> list[str] | None:
    """All the texts; None if there are more than `limit`, or more characters than a line holds."""
    read, characters = [], 0
    for text in texts:
        read.append(text)
        characters += len(text)
        if len(read) > limit or characters > MAX_LINE_BYTES:
            return None
    return read


def _divided(
    texts: list[str], fraction: float, seed: int, report: Callable[[str], None] | None
) -> tuple[list[str], list[str]]:
    if len(set(equal_text_groups(texts).tolist())) < 2:
        return texts, []
    rows = [(text,) for text in texts]
    split = split_rows([""] * len(texts), rows, fraction, np.random.default_rng(seed))
    if split.note and report is not None:
        report(split.note)
    return split.divide(texts)


def is_heldout(text: str, fraction: float, seed: int) -> bool:
    """Whether `split_heldout` holds this text of a streamed corpus out."""
    data = f"{seed}\n{text_key(text) or text}".encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(data, digest_size=8, person=b"heldout").digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def shuffled(
    items: Iterable[T], generator: np.random.Generator, buffer_size: int = 10_000
) -> Iterator[T]:
    """The items in random order, as far as a buffer of `buffer_size` items reaches.

    :param generator: owned by the caller; the same state gives the same order.
    :raises InputError: `buffer_size` is below 1.
    """
    if buffer_size < 1:
        raise InputError(f"expected a buffer_size of at least 1, got {buffer_size}")
    return _shuffle(items, generator, buffer_size)


class _Selected:
    """The texts for which `is_wanted`, chosen anew on each iteration."""

    def __init__(self, texts: Iterable[str], is_wanted: Callable[[str], bool]) -> None:
        self._texts = texts
        self.is_wanted = is_wanted

    def __iter__(self) -> Iterator[str]:
        return filter(self.is_wanted, self._texts)


class _Apart:
    """The texts that neither are held out nor near-copies of those that are, chosen anew each time.

    The held-out texts are read when the first of these is wanted.
    """

    def __init__(
        self, texts: Iterable[str], held: "_Selected", report: Callable[[str], None] | None
    ) -> None:
        self._texts, self._held, self._report = texts, held, report
        self._copies: NearCopies | None = None

    def __iter__(self) -> Iterator[str]:
        if self._copies is None:
            self._copies = NearCopies(list(self._held))
        left_out = 0
        for text in self._texts:
            if self._held.is_wanted(text):
                continue
            if self._copies.holds(text):
                left_out += 1
                continue
            yield text
        if left_out and self._report is not None:
            self._report(f"note: {left_out:,} texts are near-copies of held-out ones: left out")
            self._report = None  # once is enough


def _file_texts(path: Path, column: str, paragraphs: bool) -> Iterator[str]:
    kind = text_format(path)
    if kind == ".txt":
        if paragraphs:
            yield from (text for _, text in read_paragraphs(path))
        else:
            yield from (text for _, text in read_lines(path) if text.strip())
        return
    for record in read_records(path):
        text = text_column(record, column, path)
        if text.strip():
            yield text


def read_paragraphs(path: Path, lines_of: Lines | None = None) -> Iterator[tuple[int, str]]:
    """The paragraphs of a .txt file, each with the number of its last line; blank lines part them.

    :param lines_of: see `read_lines`.
    :raises InputError: as `read_lines`; or a paragraph of over 16 million characters.
    """
    lines: list[str] = []
    size = number = 0
    for number, line in read_lines(path, lines_of):
        if line.strip():
            lines.append(line)
            size += len(line)
            if size > MAX_LINE_BYTES:
                raise InputError(
                    f"{path}, line {number}: a paragraph of over {MAX_LINE_BYTES:,} characters;"
                    " read it line by line or add blank lines"
                )
        elif lines:
            yield number - 1, "\n".join(lines)
            lines, size = [], 0
    if lines:
        yield number, "\n".join(lines)


def _shuffle(items: Iterable[T], generator: np.random.Generator, buffer_size: int) -> Iterator[T]:
    buffer: list[T] = []
    for item in items:
        if len(buffer) < buffer_size:
            buffer.append(item)
            continue
        place = int(generator.integers(buffer_size))
        yield buffer[place]
        buffer[place] = item
    for place in generator.permutation(len(buffer)):
        yield buffer[place]
