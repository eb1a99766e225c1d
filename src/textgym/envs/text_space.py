"""The space of texts: any Unicode string up to a length (Gymnasium's own has a small charset)."""

import string
from typing import Any

import numpy as np
from gymnasium import spaces

PRINTABLE = string.ascii_letters + string.digits + string.punctuation + " "


class TextSpace(spaces.Text):
    """Strings of 0 to `max_length` characters, of every character that UTF-8 can hold.

    Samples consist of printable ASCII characters.

    :param max_length: the longest string, in characters.
    :param sample_length: the longest sample; default: `max_length`.
    """

    def __init__(
        self,
        max_length: int,
        *,
        sample_length: int | None = None,
        seed: int | np.random.Generator | None = None,
    ) -> None:
        super().__init__(max_length, min_length=0, charset=PRINTABLE, seed=seed)
        self.sample_length = max_length if sample_length is None else sample_length

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A random string; `mask` and `probability` as in Gymnasium's `Text`."""
        if mask is None and probability is None:
            length = int(self.np_random.integers(self.sample_length + 1))
            return super().sample(mask=(length, None))
        return super().sample(mask=mask, probability=probability)

    def contains(self, x: Any) -> bool:
        """Whether `x` is a string, not too long, without lone surrogates."""
        if not isinstance(x, str) or len(x) > self.max_length:
            return False
        return not any("\ud800" <= character <= "\udfff" for character in x)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextSpace) and self.max_length == other.max_length

    def __hash__(self) -> int:
        return hash((TextSpace, self.max_length))

    def __repr__(self) -> str:
        return f"TextSpace({self.max_length})"
