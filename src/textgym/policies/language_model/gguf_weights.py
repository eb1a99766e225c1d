"""A GGUF file (llama.cpp's) as the decoder of a `CausalLM` reads it.

Its metadata become transformers' `config.json`, its tensors get transformers' names, and the rows
of queries and keys that llama.cpp puts in another order go back to where they were.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.gguf_files import GGUFFile
from textgym.policies.language_model.decoder import Decoder, inverse_frequencies
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.policies.language_model.transformers_config import from_transformers
from textgym.tokenizer import Tokenizer

# llama.cpp's word for a family → transformers', and whether it lays rotary pairs side by side.
_FAMILIES = {"llama": ("llama", True), "qwen2": ("qwen2", False), "qwen3": ("qwen3", False)}
_STRETCH = "rope_freqs.weight"  # divisors of the rotary frequencies, Llama 3.1 and later


class GGUFWeights:
    """A GGUF file with a model of a family that the decoder has.

    :param path: of the file.
    :param pad_token: see `Tokenizer.load`.
    :raises InputError: naming the file: for another family, a rotary stretching that is not known,
        or a file that is damaged.
    """

    def __init__(self, path: Path, *, pad_token: str | None = None) -> None:
        self.file = GGUFFile(path)
        self.config = _config(self.file)
        self.tokenizer = Tokenizer.of_gguf(self.file, pad=pad_token)
        named = self.file.names_in_file(_names(self.config))
        present = self.file.tensor_names
        # A file that lacks one lacks it in `shapes()` too; what nobody asks for keeps its own name.
        self._there = {ours: name for ours, name in named.items() if name and name in present}
        self._others = present.difference(self._there.values(), {_STRETCH})

    def room(self) -> int:
        """See `WeightSource`."""
        return sum(int(np.prod(self.file.shape(name))) for name in self.file.tensor_names)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `WeightSource`."""
        found = {ours: self.file.shape(theirs) for ours, theirs in self._there.items()}
        return found | {name: self.file.shape(name) for name in self._others}

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """See `WeightSource`; one at a time, in float32."""
        is_paired = _FAMILIES[self.file.architecture][1]
        heads = {
            "q_proj": self.config.num_attention_heads,
            "k_proj": self.config.num_key_value_heads,
        }
        for ours, theirs in self._there.items():
            values = self.file.values(theirs)
            projection = ours.split(".")[-2]
            if is_paired and projection in heads:
                values = _halves(values, heads[projection])
            yield ours, torch.from_numpy(values)


def _names(config: CausalLMConfig) -> list[str]:
    """The names of all weights of a model of this shape."""
    with torch.device("meta"):
        trunk = Decoder(config)
    head = [] if config.tie_word_embeddings else ["lm_head.weight"]
    return [f"model.{name}" for name in trunk.state_dict()] + head


def _halves(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a head from rotary pairs side by side to those of its two halves.

    llama.cpp turns neighbours (Su et al. 2021, equation 34), transformers the two halves.
    """
    pairs = rows.reshape(heads, rows.shape[0] // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _config(file: GGUFFile) -> CausalLMConfig:
    """The configuration in a file's metadata.

    :raises InputError: for a family or a variant that the decoder has not.
    """
    word, fields = file.architecture, file.metadata
    if word not in _FAMILIES:
        raise InputError(
            f"{file.path}: the architecture {word!r:.60} is not supported; expected one of "
            f"{', '.join(_FAMILIES)} (Mistral is llama there)"
        )
    if fields.has(f"{word}.expert_count") and fields.whole(f"{word}.expert_count"):
        raise InputError(f"{file.path}: mixtures of experts are not supported")

    def whole(key: str) -> int:
        return fields.whole(f"{word}.{key}", 1)

    heads, width = whole("attention.head_count"), whole("embedding_length")
    is_told = fields.has(f"{word}.attention.head_count_kv")
    content: dict[str, Any] = {
        "model_type": _FAMILIES[word][0],
        "vocab_size": file.shape("token_embd.weight")[0] if _has_table(file) else 0,
        "hidden_size": width,
        "num_hidden_layers": whole("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": whole("attention.head_count_kv") if is_told else heads,
        "head_dim": _head_dim(file, width // heads),
        "intermediate_size": whole("feed_forward_length"),
        "max_position_embeddings": whole("context_length"),
        "rms_norm_eps": _rounded(fields.number(f"{word}.attention.layer_norm_rms_epsilon")),
        "rope_theta": fields.content.get(f"{word}.rope.freq_base", 10_000.0),
        "tie_word_embeddings": "output.weight" not in file.tensor_names,
    }
    scaling = fields.content.get(f"{word}.rope.scaling.type", "none")
    if scaling != "none":
        raise InputError(f"{file.path}: rope type {scaling!r:.60} is not supported")
    plain = from_transformers(content, file.path)
    if _STRETCH not in file.tensor_names:
        return plain
    return from_transformers(content | {"rope_scaling": _stretching(file, plain)}, file.path)


def _has_table(file: GGUFFile) -> bool:
    if "token_embd.weight" not in file.tensor_names:
        raise InputError(f"{file.path}: the weights lack 'token_embd.weight', the embeddings")
    return True


def _head_dim(file: GGUFFile, default: int) -> int:
    """The width of a head; rotary positions must cover all of it."""
    fields, word = file.metadata, file.architecture
    keys = [f"{word}.attention.key_length", f"{word}.attention.value_length"]
    widths = {fields.whole(key, 1) for key in keys if fields.has(key)} or {default}
    turned = f"{word}.rope.dimension_count"
    if fields.has(turned):
        widths.add(fields.whole(turned, 1))
    if len(widths) > 1:
        raise InputError(
            f"{file.path}: heads of several widths {sorted(widths)}, or partial rotary positions, "
            "are not supported"
        )
    return widths.pop()


def _rounded(number: float) -> float:
    """A number that float32 made of a short decimal, as the decimal (9.99999975e-06 → 1e-05)."""
    return float(f"{number:.6g}")


def _stretching(file: GGUFFile, plain: CausalLMConfig) -> dict[str, Any]:
    """Llama 3's stretching of rotary frequencies, told from its divisors.

    :raises InputError: if they are not those of its published settings.
    """
    divisors = file.values(_STRETCH)
    scaling = {
        "rope_type": "llama3",
        "factor": float(divisors.max()),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    fields = {**vars(plain), "rope_scaling": scaling}
    expected = inverse_frequencies(plain) / inverse_frequencies(CausalLMConfig(**fields))
    if divisors.shape != expected.shape or not np.allclose(divisors, expected.numpy(), rtol=1e-3):
        raise InputError(f"{file.path}: {_STRETCH} is not Llama 3's, which alone is supported")
    return scaling
