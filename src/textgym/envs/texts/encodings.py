"""The lines of files in other charsets than UTF-8, named or found out; mixed charsets are told.

A spec is "auto", the name of a charset ("gb18030"), or several with "+" ("utf-8+gb18030"): then
each line is read by the first that can.
"""

import codecs
import contextlib
import io
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import IO

from textgym.envs.texts.records import MAX_LINE_BYTES, open_file
from textgym.errors import InputError
from textgym.extras import import_extra

AUTO = "auto"
SAMPLE_LINES, SAMPLE_BYTES = 2000, 2**18  # that are looked at to find a charset out
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
          (codecs.BOM_UTF8, "utf-8-sig"))  # fmt: skip
# Three characters of three bytes each, one behind the other, are UTF-8 and no accident.
_SURELY_UTF8 = re.compile(rb"(?:[\xe1-\xef][\x80-\xbf]{2}){3}|(?:[\xc3-\xdf][\x80-\xbf]){5}")


class DecodedLines:
    """The lines of a file, with their line ends; `encoding` is what they were read as.

    :param path: plain or .gz.
    :param encoding: a spec, see the module.
    :raises InputError: for a charset that Python does not know; on iteration for a line that is
        not in it, a NUL, a line of over 16 MiB, or lines of different charsets.
    """

    def __init__(self, path: Path, encoding: str = AUTO) -> None:
        self.path = path
        self.encoding = ""
        self._names = [] if encoding == AUTO else [known_charset(n) for n in encoding.split("+")]

    def __iter__(self) -> Iterator[tuple[int, str]]:
        with open_file(self.path) as stream:
            start = stream.read(4)
        mark = next((name for bom, name in _MARKS if start.startswith(bom)), None)
        with open_file(self.path) as stream:
            wide = mark if mark not in (None, "utf-8-sig") else None
            if len(self._names) == 1 and self._names[0].startswith(("utf-16", "utf-32")):
                wide = self._names[0]
            if wide is not None:
                yield from self._wide(stream, wide)
            elif self._names:
                yield from self._named(_raw_lines(stream, self.path))
            else:
                yield from self._found_out(_raw_lines(stream, self.path))

    def _wide(self, stream: IO[bytes], name: str) -> Iterator[tuple[int, str]]:
        """Lines of two or four bytes a character, which no bytes of one end."""
        self.encoding = name
        reader = io.TextIOWrapper(stream, name, newline="\n")
        line = 0
        try:
            while text := reader.readline(MAX_LINE_BYTES + 1):
                line += 1
                if len(text) > MAX_LINE_BYTES:
                    raise _too_long(self.path, line)
                yield line, text
        except UnicodeError as error:
            raise InputError(f"{self.path}, after line {line}: not {name} ({error})") from None
        finally:
            reader.detach()  # whoever opened the stream closes it

    def _named(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
        self.encoding = "+".join(self._names)
        for line, raw in lines:
            for name in self._names:
                text = _decoded(raw, name)
                if text is not None:
                    yield line, text
                    break
            else:
                raise InputError(
                    f"{self.path}, line {line}: not {' or '.join(self._names)}: "
                    "give --encoding auto, or the charset that it is in"
                )

    def _found_out(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, str]]:
        """UTF-8 as long as it is; where the first other line stands, the charset is looked for."""
        self.encoding, last_utf8 = "utf-8", 0
        for line, raw in lines:
            text = _decoded(raw, "utf-8")
            if text is None:
                break
            last_utf8 = last_utf8 if raw.isascii() else line
            yield line, text
        else:
            return
        ahead = [(line, raw)]
        size = len(raw)
        while len(ahead) < SAMPLE_LINES and size < SAMPLE_BYTES:
            following = next(lines, None)
            if following is None:
                break
            ahead.append(following)
            size += len(following[1])
        name = self._guess(b"".join(raw for _, raw in ahead if not raw.isascii()), line)
        if last_utf8:
            raise self._mixed(last_utf8, line, name)
        self.encoding = name
        for line, raw in chain(ahead, lines):
            text = _decoded(raw, name)
            if text is None:
                if _decoded(raw, "utf-8") is not None:
                    raise self._mixed(line, ahead[0][0], name)
                raise InputError(
                    f"{self.path}, line {line}: not {name}, as which the lines before were read: "
                    "give --encoding NAME, or NAME+NAME for lines of different charsets"
                )
            if _SURELY_UTF8.search(raw) and _decoded(raw, "utf-8") is not None:
                raise self._mixed(line, ahead[0][0], name)
            yield line, text

    def _guess(self, sample: bytes, line: int) -> str:
        library = import_extra("charset_normalizer", extra="prepare", what="finding a charset out")
        best = library.from_bytes(sample).best()
        if best is None or best.encoding.startswith(("utf_16", "utf_32", "utf_7")):
            raise InputError(
                f"{self.path}, line {line}: neither UTF-8 nor another charset that can be found "
                "out; is it a text file? give --encoding NAME"
            )
        return str(best.encoding)

    def _mixed(self, utf8_line: int, other_line: int, name: str) -> InputError:
        return InputError(
            f"{self.path}: mixed encodings: line {utf8_line} is UTF-8, line {other_line} is not "
            f"({name}, it seems); convert one of them, or give --encoding utf-8+{name}"
        )


def known_charset(name: str) -> str:
    """A charset's name as Python writes it.

    :raises InputError: for one of text that Python does not know.
    """
    try:
        with contextlib.suppress(UnicodeError):
            b"a".decode(name.strip())  # "base64" is no charset
        return codecs.lookup(name.strip()).name
    except (LookupError, ValueError):
        raise InputError(
            "encoding must be 'auto' or a charset such as 'gb18030' or 'utf-8+cp1252', got "
            f"{name!r:.60}"
        ) from None


def _raw_lines(stream: IO[bytes], path: Path) -> Iterator[tuple[int, bytes]]:
    line = 0
    while raw := stream.readline(MAX_LINE_BYTES + 1):
        line += 1
        if line == 1:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        if len(raw) > MAX_LINE_BYTES:
            raise _too_long(path, line)
        if b"\0" in raw:
            raise InputError(
                f"{path}, line {line}: holds a NUL byte, so it is no text file (or UTF-16 without "
                "a mark: give --encoding utf-16-le)"
            )
        yield line, raw


def _decoded(raw: bytes, name: str) -> str | None:
    try:
        return raw.decode(name)
    except UnicodeError:
        return None


def _too_long(path: Path, line: int) -> InputError:
    return InputError(
        f"{path}, line {line}: longer than {MAX_LINE_BYTES:,} bytes; break it into lines"
    )
