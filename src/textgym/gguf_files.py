"""GGUF files (llama.cpp's format): what they say of a model, and its tensors as float32.

Read with the `gguf` library (extra `gguf`), which dequantizes too. Nothing in a file is executed.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from textgym.errors import InputError
from textgym.extras import import_extra
from textgym.saved_fields import SavedFields
from textgym.storage import require_regular_file

SUFFIX = ".gguf"


def is_gguf(path: Path) -> bool:
    """Whether a path names a GGUF file."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


class GGUFFile:
    """A GGUF file, open for reading.

    :param path: of the file.
    :raises InputError: if the library is not installed, or the file is missing or damaged.

    `metadata` has its key-value pairs.
    """

    def __init__(self, path: Path) -> None:
        self._gguf = import_extra("gguf", extra="gguf", what="a GGUF file")
        self.path = require_regular_file(path)
        try:
            reader = self._gguf.GGUFReader(path)
            content = {name: field.contents() for name, field in reader.fields.items()}
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        except Exception as error:  # whatever a damaged header leads the library to
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: not a GGUF file that can be read ({reason:.200})") from None
        self.metadata = SavedFields(content, path)

    @property
    def architecture(self) -> str:
        """llama.cpp's word for the model's family."""
        return self.metadata.text("general.architecture")

    @property
    def tensor_names(self) -> set[str]:
        """llama.cpp's names of the tensors."""
        return set(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor as torch has it: output features first."""
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def values(self, name: str) -> np.ndarray:
        """A tensor as float32.

        :raises InputError: for a quantisation that the library cannot undo, or a damaged tensor.
        """
        tensor = self._tensors[name]
        kind = tensor.tensor_type.name
        try:
            values = self._gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            return np.array(values, dtype=np.float32).reshape(self.shape(name))  # a copy
        except NotImplementedError:
            raise InputError(
                f"{self.path}: {name!r} is quantised as {kind}, which cannot be undone here; "
                "take a file in F32, F16, BF16, Q8_0, Q4_0, Q4_1 or of the K kinds"
            ) from None
        except ValueError as error:
            raise InputError(f"{self.path}: {name!r} is damaged ({error})") from None

    def names_in_file(self, names: Iterable[str]) -> dict[str, str | None]:
        """llama.cpp's names of tensors by transformers' names; None for one without."""
        known = self._gguf.MODEL_ARCH_NAMES
        arch = next(key for key, word in known.items() if word == self.architecture)
        blocks = self.metadata.whole(f"{self.architecture}.block_count", 1, 10_000)
        table = self._gguf.get_tensor_name_map(arch, blocks)
        suffixes = (".weight", ".bias")
        return {name: table.get_name(name, try_suffixes=suffixes) for name in names}
