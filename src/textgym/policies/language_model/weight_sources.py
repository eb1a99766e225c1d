"""Where a model's weights are read from: a checkpoint directory, or a GGUF file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from torch import Tensor

from textgym.errors import InputError
from textgym.gguf_files import is_gguf
from textgym.policies.language_model.architectures import ModelConfig, config_from_json
from textgym.policies.language_model.gguf_weights import GGUFWeights
from textgym.storage import read_json
from textgym.tensor_files import floating, not_floating, read_tensors, tensor_kinds, tensor_shapes
from textgym.tokenizer import Tokenizer

INDEX = "model.safetensors.index.json"


class WeightSource(Protocol):
    """A model at rest: its configuration, its tokenizer, and tensors by transformers' names."""

    tokenizer: Tokenizer

    @property
    def config(self) -> ModelConfig:
        """Its shape."""

    def room(self) -> int:
        """The most weights that its files can hold."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor; nothing of its size is read."""

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Every tensor, by its name."""


def weight_source(place: Path, *, pad_token: str | None = None) -> WeightSource:
    """What stands at a place, opened.

    :raises InputError: naming the file and what is wrong with it.
    """
    if is_gguf(place):
        return GGUFWeights(place, pad_token=pad_token)
    return DirectoryWeights(place, pad_token=pad_token)


class DirectoryWeights:
    """A checkpoint directory: `config.json`, safetensors (one file, or shards), `tokenizer.json`.

    :param directory: that is known to be whole.
    :param pad_token: see `Tokenizer.load`.
    :raises InputError: naming the file and what is wrong with it.
    """

    def __init__(self, directory: Path, *, pad_token: str | None = None) -> None:
        self.tokenizer = Tokenizer.load(directory, pad_token=pad_token)
        path = directory / "config.json"
        self.config: ModelConfig = config_from_json(read_json(path), path)
        self.files = _weight_files(directory)
        for file in self.files:
            _check_floating(file)

    def room(self) -> int:
        """The bytes of the files: a byte for each weight is the least."""
        return sum(file.stat().st_size for file in self.files)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `WeightSource`."""
        return {name: shape for file in self.files for name, shape in tensor_shapes(file).items()}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `WeightSource`."""
        for file in self.files:
            yield from floating(read_tensors(file), file).items()


def _check_floating(file: Path) -> None:
    """Raises for weights that are no floats. Old checkpoints hold masks as biases, which may be.

    :raises InputError: naming the file and the first such weight.
    """
    for name, kind in tensor_kinds(file).items():
        if name.endswith("weight") and not kind.startswith(("F", "BF")):
            raise not_floating(file, name, kind)


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model: one, or those that an index names."""
    index = directory / INDEX
    if not index.is_file():
        single = directory / "model.safetensors"
        if single.exists():
            return [single]
        if pickled := sorted(directory.glob("*.bin")):
            raise InputError(
                f"{directory}: holds pickled weights only ({pickled[0].name}), which are never "
                "opened, as that may run code: save_pretrained of transformers writes "
                "model.safetensors"
            )
        if parts := sorted(directory.glob("model-*-of-*.safetensors")):
            raise InputError(
                f"{directory}: holds shards ({parts[0].name} among {len(parts)}), but not "
                f"{INDEX}, which says what stands in which: copy it here, or download the "
                "checkpoint again"
            )
        raise InputError(
            f"{directory}: holds no weights: expected {single.name}, or shards with their {INDEX}"
        )
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{index}: damaged, expected a weight_map")
    shards = sorted(set(names.values()))
    if any(Path(shard).name != shard or "\0" in shard for shard in shards):
        raise InputError(f"{index}: names files outside the checkpoint")
    missing = [shard for shard in shards if not (directory / shard).is_file()]
    if missing:
        raise InputError(
            f"{directory}: the shard {missing[0]} is missing ({len(missing)} of {len(shards)}), "
            f"which {INDEX} names: copy it here, or download the checkpoint again"
        )
    return [directory / shard for shard in shards]
