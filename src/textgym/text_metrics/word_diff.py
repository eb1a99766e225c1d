"""What differs between two texts, word by word; Chinese, Japanese and Korean by character."""

import difflib
import re
from typing import Literal

Kind = Literal["same", "removed", "added"]

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
_WORDS = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])\w)+|\s+|[^\w\s]", re.S)


def words(text: str) -> list[str]:
    """Words, spaces and single marks in order; together they are the text."""
    return _WORDS.findall(text)


def word_diff(before: str, after: str) -> list[tuple[Kind, str]]:
    """The parts of two texts in order: what both have, what only the first, only the second."""
    a, b = words(before), words(after)
    parts: list[tuple[Kind, str]] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            parts.append(("same", "".join(a[i:j])))
            continue
        if i < j:
            parts.append(("removed", "".join(a[i:j])))
        if k < m:
            parts.append(("added", "".join(b[k:m])))
    return parts


def likeness(one: str, other: str) -> float:
    """Share of the words of two texts that they have in common, in order; 1 for the same."""
    return difflib.SequenceMatcher(None, words(one), words(other), autojunk=False).ratio()
