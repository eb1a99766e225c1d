"""Stripping markup: tags of HTML and XML, comments, entities; optionally links."""

import html
import re
from dataclasses import dataclass
from typing import ClassVar

from textgym.envs.texts.preparation.step import TextFunction, TextStep

# Whole elements whose content nobody reads, comments, and declarations.
_HIDDEN = re.compile(
    r"<(script|style|head|template)\b[^<>]*>.*?</\1\s*>|<!--.*?-->|<!\[CDATA\[|\]\]>", re.I | re.S
)
_BREAK = re.compile(r"</?(?:p|div|br|li|ul|ol|tr|table|h[1-6]|blockquote|pre)\b[^<>]*>", re.I)
_TAG = re.compile(r"</?[A-Za-z][\w:-]*(?:\s[^<>]*)?/?>|<[!?][A-Za-z][^<>]*>")
_LINK = re.compile(r"\b(?:https?://|www\.)[^\s<>\"'()（）。，、]+", re.I)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")


@dataclass(frozen=True)
class Markup(TextStep):
    """Removes tags, comments, scripts and style sheets, and writes entities as characters.

    Where a paragraph or line ended, a line break stands. What is written twice over
    (`&amp;lt;b&amp;gt;`) is stripped until nothing is left to strip. `a < b` stays.

    :param links: whether addresses of pages go too.
    """

    key: ClassVar[str] = "markup"
    links: bool = False

    def start(self) -> TextFunction:
        """See `TextStep.start`."""

        def stripped(text: str) -> str:
            while True:
                before, text = text, self._once(text)
                if text == before:
                    return text

        return stripped

    def _once(self, text: str) -> str:
        if "<" in text or "]]>" in text:
            text = _TAG.sub("", _BREAK.sub("\n", _HIDDEN.sub(" ", text)))
        if "&" in text:
            text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
        return _LINK.sub("", text) if self.links else text
