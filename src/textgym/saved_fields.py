"""The fields of a JSON file that a checkpoint holds: of the type that is asked for, or refused.

A checkpoint may come from anybody. What is read here is a number, a truth value, a text or a table,
never code.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from textgym.errors import InputError

_LARGEST = 2**63 - 1


class SavedFields:
    """A table of a JSON file.

    :param content: what was read.
    :param path: of the file, or what else an error names.
    :raises InputError: if it is no table.
    """

    def __init__(self, content: Any, path: Path | str) -> None:
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            raise InputError(f"{path}: expected a table, found {type(content).__name__}")
        self.content: dict[str, Any] = content
        self.path = path

    def whole(self, name: str, low: int = 0, high: int = _LARGEST) -> int:
        """A whole number of a range."""
        value = self.value(name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(name, f"a whole number from {low:,} to {high:,}")
        return value

    def number(self, name: str, *, above: float = -math.inf) -> float:
        """A finite number above another one."""
        value = self.value(name)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not max(above, -1e300) < value < 1e300:
            raise self.error(name, "a finite number" + f" above {above:g}" * (above > -math.inf))
        return float(value)

    def flag(self, name: str) -> bool:
        """true or false."""
        value = self.value(name)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def text(self, name: str) -> str:
        """A text of one line, at most a thousand characters."""
        value = self.value(name)
        if not isinstance(value, str) or not value.isprintable() or len(value) > 1000:
            raise self.error(name, "a line of text")
        return value

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        value = self.value(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(name, "a list of texts")
        return value

    def table(self, name: str) -> "SavedFields":
        """A table inside."""
        return SavedFields(self.value(name), f"{self.path}: {name}")

    def array(
        self,
        name: str,
        dtype: str,
        shape: tuple[int | None, ...],
        *,
        low: float | None = None,
        high: float | None = None,
    ) -> np.ndarray:
        """A NumPy array.

        :param shape: None stands for any length.
        :param low, high: the smallest and the largest value that it may hold.
        """
        value: Any = self.value(name)
        is_array = isinstance(value, np.ndarray) and value.dtype == np.dtype(dtype)
        if not is_array or len(value.shape) != len(shape):
            raise self.error(name, f"an array of {dtype} with {len(shape)} dimensions")
        if any(n is not None and n != found for n, found in zip(shape, value.shape, strict=True)):
            wanted = "x".join("any" if n is None else str(n) for n in shape)
            raise self.error(name, f"an array of shape {wanted}")
        if value.size and (
            (low is not None and not value.min() >= low)
            or (high is not None and not value.max() <= high)
        ):
            raise self.error(name, f"an array of values from {low} to {high}")
        array: np.ndarray = value
        return array

    def items(self, name: str, length: int | None = None) -> list[Any]:
        """A list, maybe of a given length."""
        value = self.value(name)
        if not isinstance(value, list) or (length is not None and len(value) != length):
            raise self.error(name, "a list" + f" of {length}" * (length is not None))
        return value

    def has(self, name: str) -> bool:
        """Whether there is such a field, and it is not null."""
        return self.content.get(name) is not None

    def value(self, name: str) -> Any:
        """A field as it is.

        :raises InputError: if it is missing.
        """
        if name not in self.content:
            raise InputError(f"{self.path}: the key {name!r} is missing")
        return self.content[name]

    def error(self, name: str, expected: str) -> InputError:
        """The error of a field that is something else."""
        found = f"{' '.join(repr(self.content[name]).split()):.60}"
        return InputError(f"{self.path}: {name} must be {expected}, got {found}")
