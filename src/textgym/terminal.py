"""Texts on a terminal, which shows them and does not obey them.

A text of a model, a file or a checkpoint may hold what a terminal takes for commands: ESC sequences
move the cursor, change the title or the clipboard, a carriage return writes over the line, marks of
direction turn what stands beside them around.
"""

import re
import sys

# Control characters but line end and tab, line ends of other kinds, marks of direction, half pairs.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with the characters that a terminal obeys as Python writes them: \\x1b for ESC."""
    return _OBEYED.sub(lambda match: repr(match[0])[1:-1], text)


def for_output(text: str) -> str:
    """The text for standard output: `visible` on a terminal, itself in a file or pipe."""
    is_terminal = getattr(sys.stdout, "isatty", lambda: False)()
    return visible(text) if is_terminal else text
