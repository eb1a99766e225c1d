"""Tensors on disk as safetensors: the header is looked at before anything is read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from textgym.errors import InputError
from textgym.storage import require_regular_file

T = TypeVar("T")
_METADATA = {"format": "pt"}  # a second entry would come in another order each time


def write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors (contiguous, on the CPU, none sharing memory) as one file.

    :raises OSError: if it cannot be written.
    """
    try:
        save_file(tensors, path, metadata=_METADATA)
    except SafetensorError as error:  # a full disk, for one
        raise OSError(str(error)) from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    :raises InputError: naming the file, if it is missing, damaged or no regular file.
    """
    return _read(path, lambda file, name: file.get_tensor(name))


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, from the header alone.

    :raises InputError: naming the file, if it is missing, damaged or no regular file.
    """
    return _read(path, lambda file, name: tuple(file.get_slice(name).get_shape()))


def tensor_kinds(path: Path) -> dict[str, str]:
    """The dtype of each tensor as safetensors has it ("F32", "BF16", "I8"), from the header alone.

    :raises InputError: naming the file, if it is missing, damaged or no regular file.
    """
    return _read(path, lambda file, name: str(file.get_slice(name).get_dtype()))


def _read(path: Path, value: Callable[[Any, str], T]) -> dict[str, T]:
    """A value of each tensor, from the open file and the tensor's name."""
    require_regular_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return {name: value(file, name) for name in file.keys()}
    except (OSError, SafetensorError, ValueError, RuntimeError, MemoryError) as error:
        raise InputError(f"{path}: not a safetensors file that can be read ({error})") from None


def not_floating(path: Path, name: str, kind: str) -> InputError:
    """The error for a weight that is no float."""
    return InputError(f"{path}: {name!r} must be floating point, found {kind}")


def floating(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The tensors themselves, if all are of floating point.

    :raises InputError: naming the first that is not.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise not_floating(path, name, str(tensor.dtype).removeprefix("torch."))
    return tensors
