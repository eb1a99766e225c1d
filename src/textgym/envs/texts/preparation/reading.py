"""The rows of files that are to be prepared: .txt, .jsonl and .csv, in any charset."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from textgym.envs.texts.corpus import read_paragraphs
from textgym.envs.texts.encodings import AUTO, DecodedLines, known_charset
from textgym.envs.texts.preparation.rows import Row
from textgym.envs.texts.records import Record, read_records, text_format
from textgym.errors import InputError


class RowFiles:
    """The rows of files, one in memory at a time, read anew on each iteration.

    :param paths: at least one; each ends in .txt, .jsonl or .csv, or one of these with .gz.
    :param column: of .jsonl and .csv files that holds the text.
    :param paragraphs: in .txt files, a text ends at a blank line rather than at each line's end.
    :param encoding: see `textgym.envs.texts.encodings`.
    :raises InputError: no path, no such file, an unknown suffix or charset; the contents are
        checked as they are read.

    `encodings` holds what each file was read as, once it was.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        column: str = "text",
        paragraphs: bool = False,
        encoding: str = AUTO,
    ) -> None:
        if not paths:
            raise InputError("expected the path of a corpus, got none")
        self._kinds = {path: text_format(path) for path in paths}
        if encoding != AUTO:
            for name in encoding.split("+"):
                known_charset(name)
        self._paths = tuple(paths)
        self._column, self._paragraphs, self._encoding = column, paragraphs, encoding
        self.encodings: dict[Path, str] = {}

    def __iter__(self) -> Iterator[Row]:
        """:raises InputError: for a bad file, with its line."""
        number = 0
        for path in self._paths:
            lines = DecodedLines(path, self._encoding)
            for record in self._records(path, lines):
                number += 1
                yield self._row(record, number, path)
            self.encodings[path] = lines.encoding

    def _records(self, path: Path, lines: DecodedLines) -> Iterator[Record]:
        if self._kinds[path] == ".txt" and self._paragraphs:
            for line, text in read_paragraphs(path, lines):
                yield Record(line, {"text": text})
        else:
            yield from read_records(path, lines)

    def _row(self, record: Record, number: int, path: Path) -> Row:
        place = record.place(path)
        values = dict(record.values)
        column = "text" if self._kinds[path] == ".txt" else self._column
        if column not in values:
            found = ", ".join(repr(name)[:40] for name in list(values)[:8]) or "none"
            raise InputError(f"{place}: expected the column {column!r}, found {found}")
        text = values.pop(column)
        if not isinstance(text, str):
            kind = type(text).__name__
            raise InputError(f"{place}: expected a text in column {column!r}, found {kind}")
        return Row(text, number, values, place=place)
