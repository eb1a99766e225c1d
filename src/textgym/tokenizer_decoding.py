"""Decoding the middle of a text: some tokenizers write a token otherwise where a text starts.

Such a decoder drops a space, say. So ids are decoded behind a token with a text of its own, an
anchor, and that text is cut off again.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from tokenizers import Tokenizer as _Tokenizer

if TYPE_CHECKING:
    import numpy as np

Ids: TypeAlias = "Sequence[int] | np.ndarray"


class ContinuationDecoder:
    """Decodes ids that go on from others.

    :param backend: decodes a whole text.
    :param vocab_size: ids that there may be.
    :param fallback: an id for a vocabulary without any text.
    """

    def __init__(self, backend: _Tokenizer, vocab_size: int, fallback: int) -> None:
        self.backend, self.vocab_size, self.fallback = backend, vocab_size, fallback
        self._texts: dict[int, str] = {}  # of single tokens

    def decode(self, token_ids: Iterable[int]) -> str:
        """The text of ids at the start of a text, special tokens left out."""
        return str(self.backend.decode(list(map(int, token_ids)), skip_special_tokens=True))

    def behind(self, anchor: int | None, row: Sequence[int]) -> str:
        """The text of a row behind one token with a text of its own; None: at a text's start."""
        for start in () if anchor is None else dict.fromkeys((anchor, self.probe)):
            text, head = self.decode([start, *row]), self._text(start)
            if text.startswith(head):
                return text[len(head) :]
        return self.decode(row)

    def anchor(self, prefix: Ids) -> int | None:
        """An id that stands for a prefix: its last one with a whole text; None without any text."""
        has_text = False
        for token_id in map(int, prefix[::-1]):
            text = self._text(token_id)
            if text and "\ufffd" not in text:
                return token_id
            has_text |= bool(text)
        return self.probe if has_text else None

    @functools.cached_property
    def probe(self) -> int:
        """A token with a text that no other joins: letters, or else any text."""
        ids = range(self.vocab_size)
        letters = (i for i in ids if self._text(i).isalpha())
        return next(letters, next((i for i in ids if self._text(i)), self.fallback))

    def _text(self, token_id: int) -> str:
        """What a token by itself decodes to."""
        if token_id not in self._texts:
            self._texts[token_id] = self.decode([token_id])
        return self._texts[token_id]
