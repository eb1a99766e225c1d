"""Streamed rows of .txt, .jsonl and .csv files, plain or .gz, each with its line number.

One row is in memory at a time. A file that is missing, not UTF-8 or malformed raises an
`InputError` that names the file and the line.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from textgym.envs.texts.csv_rows import CSVError, csv_rows
from textgym.errors import InputError
from textgym.paths import expand

SUFFIXES = (".txt", ".jsonl", ".csv")
MAX_LINE_BYTES = 2**24  # a longer line is a binary or unbroken file, not a text of a corpus
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


Lines = Iterable[tuple[int, str]]  # numbers and texts, line ends included


class Record(NamedTuple):
    """One row: `line` counts from 1 (for a quoted .csv row: where it ends).

    Of rows that were given in Python, `line` is the index, from 0.
    """

    line: int
    values: dict[str, Any]

    def place(self, source: object) -> str:
        """Where the row stands in its source, for errors."""
        if isinstance(source, str | Path):
            return f"{source}, line {self.line}"
        return f"row {self.line} of the {type(source).__name__} given"


def text_format(path: str | Path) -> str:
    """ ".txt", ".jsonl" or ".csv": the suffix of `path`, a final ".gz" left out.

    :raises InputError: another suffix, or no such file.
    """
    path = expand(path)
    suffix = Path(path.name.lower().removesuffix(".gz")).suffix
    if suffix not in SUFFIXES:
        known = ", ".join(SUFFIXES)
        raise InputError(f"{path}: expected a file ending in {known} (or these with .gz)")
    if not path.is_file():
        what = "found a directory" if path.is_dir() else "there is none"
        raise InputError(f"{path}: expected a text file, {what}; check the path")
    return suffix


def read_lines(path: str | Path, lines: Lines | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file (a byte order mark is dropped), without their line ends.

    :param lines: of a file in another charset, read already (`textgym.envs.texts.encodings`).
    :raises InputError: unreadable, not UTF-8, or a line over 16 MiB.
    """
    for line, text in _whole_lines(expand(path), lines):
        yield line, text.removesuffix("\n").removesuffix("\r")


def _whole_lines(path: Path, lines: Lines | None = None) -> Iterator[tuple[int, str]]:
    """The lines of a file, with their line ends."""
    line = 0
    try:
        for line, text in _utf8_lines(path) if lines is None else lines:
            yield line, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}, after line {line}: damaged gzip data ({error}); write the file anew"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def _utf8_lines(path: Path) -> Iterator[tuple[int, str]]:
    with open_file(path) as stream:
        line = 0
        while raw := stream.readline(MAX_LINE_BYTES + 1):
            line += 1
            if line == 1:
                raw = raw.removeprefix(BYTE_ORDER_MARK)
            yield line, _decode(raw, path, line)


def read_records(path: str | Path, lines: Lines | None = None) -> Iterator[Record]:
    """The rows of a .jsonl file (one JSON object a line) or .csv file (a header line first).

    A .txt file gives rows with the one column "text". Blank lines are skipped.

    :param lines: see `read_lines`.
    :raises InputError: as `read_lines`; or a row that is malformed.
    """
    path = expand(path)
    kind = text_format(path)
    if kind == ".csv":
        yield from _csv_records(path, lines)
        return
    for line, text in read_lines(path, lines):
        if text.strip():
            values = {"text": text} if kind == ".txt" else _json_object(text, path, line)
            yield Record(line, values)


def given_rows(source: object, what: str) -> Iterable[Any]:
    """The rows of a list or of a dataset (of the library `datasets`, say) that was given in Python.

    :param what: what they are, for errors ("ratings").
    :raises InputError: for what is no list of rows.
    """
    name = type(source).__name__
    if isinstance(source, Mapping):
        keys = ", ".join(repr(key)[:40] for key in list(source)[:4])
        raise InputError(
            f"{what}: expected rows, got a {name} with {keys}: pass one of its splits "
            "(dataset['train']), or a list of mappings"
        )
    if hasattr(source, "iloc"):
        raise InputError(f"{what}: got a {name}: pass table.to_dict('records')")
    if isinstance(source, bytes) or not isinstance(source, Iterable):
        raise InputError(f"{what}: expected a file, a list of rows or a dataset, got {name}")
    return source


def given_record(row: object, index: int, source: object) -> Record:
    """A row that was given in Python.

    :raises InputError: unless it is a mapping.
    """
    if not isinstance(row, Mapping):
        raise InputError(
            f"{Record(index, {}).place(source)}: expected a mapping of columns, got "
            f"{type(row).__name__}"
        )
    return Record(index, dict(row))


def text_column(record: Record, column: str, path: object) -> str:
    """The string in `column` of a row.

    :raises InputError: no such column, not a string, or not valid Unicode (a lone surrogate).
    """
    where = record.place(path)
    if column not in record.values:
        found = ", ".join(repr(name)[:40] for name in list(record.values)[:8]) or "none"
        raise InputError(f"{where}: expected the column {column!r}, found {found}")
    value = record.values[column]
    if not isinstance(value, str):
        kind = type(value).__name__
        raise InputError(f"{where}: expected a text in column {column!r}, found {kind}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: column {column!r} holds half a surrogate pair at character {error.start};"
            " write the character whole"
        ) from error
    return value


def open_file(path: Path) -> IO[bytes]:
    """A file's bytes, those of a .gz unpacked."""
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")  # type: ignore[return-value]
    return path.open("rb")


def _decode(raw: bytes, path: Path, line: int) -> str:
    if len(raw) > MAX_LINE_BYTES:
        raise InputError(
            f"{path}, line {line}: longer than {MAX_LINE_BYTES:,} bytes; break it into lines"
        )
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise InputError(
            f"{path}, line {line}: expected UTF-8, found byte 0x{byte:02x} at position"
            f" {error.start}; save the file as UTF-8"
        ) from error


def _json_object(text: str, path: Path, line: int) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {line}: not JSON ({error})") from error
    if not isinstance(value, dict):
        kind = type(value).__name__
        raise InputError(f"{path}, line {line}: expected a JSON object, found {kind}")
    return value


def _csv_records(path: Path, lines: Lines | None) -> Iterator[Record]:
    header: list[str] | None = None
    try:
        for line, row in csv_rows(_whole_lines(path, lines), MAX_LINE_BYTES):
            if header is None:
                header = _csv_header(row, path, line)
                continue
            if len(row) != len(header):
                raise InputError(
                    f"{path}, line {line}: expected {len(header)} columns as in the"
                    f" header, found {len(row)}; quote fields that hold a comma"
                )
            yield Record(line, dict(zip(header, row, strict=True)))
    except CSVError as error:
        raise InputError(f"{path}, line {error.line}: not CSV ({error})") from error


def _csv_header(row: list[str], path: Path, line: int) -> list[str]:
    names = [name.strip() for name in row]
    if "" in names or len(set(names)) < len(names):
        raise InputError(
            f"{path}, line {line}: expected a header of different names, found {str(row)[:200]}"
        )
    return names
