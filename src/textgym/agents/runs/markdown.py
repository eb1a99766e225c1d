"""Markdown for TensorBoard's text page, in which a text shows as what it is and nothing acts."""

import re
from collections.abc import Sequence

_LINE_BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_HALF_PAIR = re.compile("[\ud800-\udfff]")
# What means something to Markdown or HTML, or is lost by them: everything in ASCII but letters,
# digits and single spaces, and the white space of other scripts.
_SPECIAL = re.compile(r"^ | $|(?<= ) |[!-/:-@\[-`{-~]|[^\S\x00-\x20\x7f-\x9f]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def escape_markdown(text: str) -> str:
    """Markdown that shows `text` on one line: no link, picture, emphasis, table cell or HTML.

    A line break shows as \u23ce, another control character as its picture (\u2409 for a tab), or as
    \\x9b where there is none; a space that would be lost becomes one that is not.
    """
    text = _HALF_PAIR.sub("\ufffd", _LINE_BREAK.sub("\u23ce", text))
    return _CONTROL.sub(_picture, _SPECIAL.sub(_reference, text))


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts, each escaped."""
    lines = [headers, *rows]
    cells = [f"| {' | '.join(map(escape_markdown, line))} |" for line in lines]
    return "\n".join([cells[0], "|" + " --- |" * len(headers), *cells[1:]])


def _reference(match: re.Match[str]) -> str:
    return f"&#{160 if match[0] == ' ' else ord(match[0])};"


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "\u2421" if code == 0x7F else escape_markdown(f"\\x{code:02x}")
