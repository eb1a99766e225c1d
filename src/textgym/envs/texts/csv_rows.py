"""The rows of a .csv file (RFC 4180), from its lines; fields keep every character they hold.

Python's own reader refuses fields of over 131,072 characters unless a setting of the whole process
is changed, so this is a reader of our own. It takes what `csv.reader(strict=True)` takes.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_PLAIN = re.compile(r"[^,\r\n]*")


class CSVError(ValueError):
    """A row that is not CSV; the message says what is wrong."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class Row(NamedTuple):
    """The fields of a row, and the line on which it ends."""

    line: int
    fields: list[str]


def csv_rows(lines: Iterator[tuple[int, str]], longest: int) -> Iterator[Row]:
    """The rows that are not blank, one in memory at a time.

    :param lines: numbers and texts, line ends included.
    :param longest: characters of a quoted field at most.
    :raises CSVError: for a field that is not closed, is too long, or goes on after its quotes.
    """
    for number, text in lines:
        if not text.strip("\r\n"):
            continue
        fields: list[str] = []
        place = 0
        while True:
            if text.startswith('"', place):
                field, number, text, place = _quoted(number, text, place + 1, lines, longest)
            else:
                match = _PLAIN.match(text, place)
                assert match is not None  # it matches nothing at all, too
                field, place = match[0], match.end()
            fields.append(field)
            if not text.startswith(",", place):
                break
            place += 1
        rest = text[place:]
        if rest.strip("\r\n"):
            what = "a line end without quotes" if rest[0] in "\r\n" else "text after closing quotes"
            raise CSVError(number, f"{what}: put the whole field in quotes, and double those in it")
        yield Row(number, fields)


def _quoted(
    number: int, text: str, start: int, lines: Iterator[tuple[int, str]], longest: int
) -> tuple[str, int, str, int]:
    """A field from behind its opening quote, and number, text and place where it ends."""
    first, size, parts = number, 0, []
    while True:
        end = text.find('"', start)
        is_open = end < 0
        parts.append(text[start:] if is_open else text[start:end])
        size += len(parts[-1])
        if size > longest:
            raise CSVError(
                first, f"a quoted field of over {longest:,} characters: is a closing quote missing?"
            )
        if is_open:
            line = next(lines, None)
            if line is None:
                raise CSVError(first, "a quoted field is never closed: add the quote")
            (number, text), start = line, 0
        elif text.startswith('"', end + 1):
            parts.append('"')
            start = end + 2
        else:
            return "".join(parts), number, text, end + 1
