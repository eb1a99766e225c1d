"""Lists of arrays of different lengths as a checkpoint holds them: end to end, with lengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from textgym.saved_fields import SavedFields


def joined(arrays: Sequence[np.ndarray], dtype: str) -> dict[str, np.ndarray]:
    """Arrays of one dimension as one, and how long each is (int64)."""
    flat = np.concatenate(arrays) if len(arrays) else np.zeros(0)
    return {"flat": flat.astype(dtype), "lengths": np.array([len(a) for a in arrays], np.int64)}


def split(
    fields: SavedFields,
    name: str,
    dtype: str,
    count: int | None = None,
    *,
    low: float | None = None,
    high: float | None = None,
) -> list[np.ndarray]:
    """The arrays of a field that `joined` made.

    :param count: how many there are, if that is known.
    :param low, high: the smallest and the largest value that they may hold.
    :raises InputError: if they are others.
    """
    table: Any = fields.table(name)
    flat = table.array("flat", dtype, (None,), low=low, high=high)
    lengths = table.array("lengths", "int64", (count,), low=0, high=len(flat))
    if int(lengths.sum()) != len(flat):
        raise fields.error(name, "arrays end to end with their lengths")
    return [part.copy() for part in np.split(flat, lengths.cumsum()[:-1])] if len(lengths) else []


def finite(arrays: Sequence[np.ndarray]) -> bool:
    """Whether all numbers of some arrays are finite."""
    return all(bool(np.isfinite(array).all()) for array in arrays)
