"""Encoding texts so that no special token ever comes out of one, at its start or further on.

The library finds the names of special tokens in a text, or, told not to, still takes some of them
for words of the vocabulary; a text that spells one is encoded in parts.
"""

import functools
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer as _Tokenizer

from textgym.tokenizer_context import clean_unicode, continuation_backend, cut_names
from textgym.tokenizer_files import refused


class TextEncoder:
    """Encodes texts, and texts that go on from others.

    :param backend: encodes a whole text; the names of special tokens are plain characters to it.
    :param special_ids: those of the special tokens, which no text may hold.
    """

    def __init__(self, backend: _Tokenizer, special_ids: Iterable[int]) -> None:
        self.backend, self.special_ids = backend, frozenset(special_ids)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole texts.

        :raises InputError: for a text that cannot be encoded.
        """
        return self._rows(self.backend, texts)

    def encode_continuing(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of what is not the start of a text, whatever stands before it.

        :raises InputError: for a text that cannot be encoded.
        """
        return self._rows(self._continuing, texts)

    def encode_behind(self, prefix: str, text: str) -> list[int]:
        """The ids of `text` where both are encoded as one; empty if those of `prefix` change."""
        before, whole = self.encode([prefix, prefix + text])
        return whole[len(before) :] if whole[: len(before)] == before else []

    def encode_marked(self, text: str) -> list[int]:
        """Token ids of a text in which the names of special tokens are those tokens."""
        return list(self._marking.encode(text, add_special_tokens=False).ids)

    def _rows(self, backend: _Tokenizer, texts: Sequence[str]) -> list[list[int]]:
        try:
            encodings = backend.encode_batch_fast(list(texts), add_special_tokens=False)
        except (TypeError, UnicodeEncodeError):
            for text in texts:
                clean_unicode(text)
            raise
        except BaseException as error:
            raise refused(error, "the tokenizer cannot encode a text") from None
        rows: list[list[int]] = [encoding.ids for encoding in encodings]
        for i, row in enumerate(rows):
            if not self.special_ids.isdisjoint(row):
                rows[i] = self._spelled(backend, texts[i])
        return rows

    def _spelled(self, backend: _Tokenizer, text: str) -> list[int]:
        """Token ids of a text with the name of a special token that the model takes for a word.

        The name is cut in two; what is special still has no other spelling and is left out.
        """
        names = filter(None, map(self.backend.id_to_token, self.special_ids))
        first, *others = cut_names(text, names)
        parts = [backend.encode(first, add_special_tokens=False)]
        parts += [self._continuing.encode(part, add_special_tokens=False) for part in others]
        return [i for part in parts for i in part.ids if i not in self.special_ids]

    @functools.cached_property
    def _continuing(self) -> _Tokenizer:
        """The backend as it encodes what is not the start of a text."""
        return continuation_backend(self.backend)

    @functools.cached_property
    def _marking(self) -> _Tokenizer:
        """The backend as it finds special tokens in a text."""
        marking = _Tokenizer.from_str(self.backend.to_str())
        marking.encode_special_tokens = False
        return marking
