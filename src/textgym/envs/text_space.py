"""The space of texts: any Unicode string up to a length (Gymnasium's own has a small charset).

It says for itself how it is flattened and how it goes through the shared memory of
`AsyncVectorEnv`: an int32 row of `max_length` code points, each plus 1, and 0 where there is none.
"""

import multiprocessing
import string
from collections.abc import Iterator
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector.utils import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)

from textgym.errors import InputError

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


def text_to_row(space: TextSpace, text: str) -> npt.NDArray[np.int32]:
    """int32 [max_length]: the text's code points, each plus 1, then zeros.

    :raises InputError: for what the space does not contain.
    """
    if text not in space:
        length = f"{len(text)} characters" if isinstance(text, str) else type(text).__name__
        raise InputError(
            f"expected a text of at most {space.max_length} characters without lone surrogates, "
            f"got {length}"
        )
    row = np.zeros(space.max_length, np.int32)
    row[: len(text)] = np.frombuffer(text.encode("utf-32-le"), "<i4") + 1
    return row


def row_to_text(row: npt.NDArray[Any]) -> str:
    """The text of a row of `text_to_row`."""
    values = np.asarray(row).astype("<i4")
    return (values[values > 0] - 1).astype("<i4").tobytes().decode("utf-32-le")


class SharedTexts(tuple[str, ...]):
    """The texts of n environments in shared memory, as they are when they are looked at.

    `AsyncVectorEnv` asks for its observations once and then expects them to change; strings do not.
    A deep copy is a plain tuple.

    :param rows: int32 [n, max_length], a view of the memory.
    """

    rows: npt.NDArray[np.int32]

    def __new__(cls, rows: npt.NDArray[np.int32]) -> "SharedTexts":
        self = super().__new__(cls, [""] * len(rows))
        self.rows = rows
        return self

    def now(self) -> tuple[str, ...]:
        """The texts of this moment."""
        return tuple(map(row_to_text, self.rows))

    def __iter__(self) -> Iterator[str]:
        return iter(self.now())

    def __getitem__(self, place: SupportsIndex | slice) -> Any:
        return self.now()[place]

    def __eq__(self, other: object) -> bool:
        return self.now() == tuple(other) if isinstance(other, tuple) else NotImplemented

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.now())

    def __repr__(self) -> str:
        return repr(self.now())

    def __copy__(self) -> tuple[str, ...]:
        return self.now()

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return self.now()

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (list(self),)


@spaces.flatten.register(TextSpace)
def _flatten(space: TextSpace, x: str) -> npt.NDArray[np.int32]:  # type: ignore[misc]
    return text_to_row(space, x)


@spaces.unflatten.register(TextSpace)
def _unflatten(space: TextSpace, x: npt.NDArray[Any]) -> str:  # type: ignore[misc]
    return row_to_text(x)


@spaces.flatten_space.register(TextSpace)
def _flatten_space(space: TextSpace) -> spaces.Box:
    return spaces.Box(0, 0x110000, (space.max_length,), np.int32)


@create_shared_memory.register(TextSpace)
def _create_shared_memory(space: TextSpace, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.Array("i", n * space.max_length)


@read_from_shared_memory.register(TextSpace)
def _read_from_shared_memory(space: TextSpace, shared_memory: Any, n: int = 1) -> SharedTexts:
    rows = np.frombuffer(shared_memory.get_obj(), np.int32)
    return SharedTexts(rows.reshape(n, space.max_length))


@write_to_shared_memory.register(TextSpace)
def _write_to_shared_memory(space: TextSpace, index: int, value: str, shared_memory: Any) -> None:
    rows = np.frombuffer(shared_memory.get_obj(), np.int32).reshape(-1, space.max_length)
    rows[index] = text_to_row(space, value)
