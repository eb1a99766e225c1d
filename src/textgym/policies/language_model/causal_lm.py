"""The language model that comes along: a decoder of transformers' Llama family, or an LSTM."""

import copy
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from textgym.checks import check_numbers
from textgym.policies.language_model.architectures import (
    TRANSFORMER,
    ModelConfig,
    filled_in,
    new_head,
    new_trunk,
)
from textgym.policies.language_model.checkpoint import from_pretrained
from textgym.policies.language_model.foreign_trunk import ForeignTrunk
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.language_model.trunk import Trunk
from textgym.tokenizer import Tokenizer

_BODY = "model.body."  # where a trunk of transformers' has its layers


class CausalLM(LanguageModel):
    """A causal language model with its tokenizer.

    :param config: its shape; a `CausalLMConfig` makes it a transformer, an `LSTMConfig` a recurrent
        model.
    :param tokenizer: its tokenizer; `vocab_size` must not exceed the model's.
    :raises InputError: if the two do not fit.
    """

    config: ModelConfig

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer)
        self.model = new_trunk(config, tokenizer)
        self.lm_head = new_head(config)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @classmethod
    def new(
        cls,
        tokenizer: Tokenizer,
        *,
        seed: int = 0,
        architecture: str = TRANSFORMER,
        **config: Any,
    ) -> Self:
        """A fresh model with random weights (its own generator; the global one is not touched).

        :param architecture: `"transformer"` or `"lstm"`.
        :param config: fields of `CausalLMConfig` or `LSTMConfig`; `vocab_size` is the tokenizer's
            if left out.
        """
        fields = {"vocab_size": tokenizer.vocab_size, **config}
        return cls.fresh(filled_in(architecture, **fields), tokenizer, seed=seed)

    @classmethod
    def fresh(cls, config: ModelConfig, tokenizer: Tokenizer, *, seed: int) -> Self:
        """As `new`, of a given shape."""
        check_numbers({"seed": seed})
        config.check_memory()
        with torch.device("meta"):
            lm = cls(config, tokenizer)
        lm.to_empty(device="cpu")
        lm.finish_loading()
        lm.initialize(seed)
        return lm

    def finish_loading(self) -> None:
        """The tie of head and embeddings, and what the trunk keeps beside its weights."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.model.finish_loading()

    def name_in_transformers(self, name: str) -> str:
        """See `LanguageModel`."""
        if not isinstance(self.model, ForeignTrunk):
            return name
        is_inside = name.startswith(_BODY)
        return self.model.prefix + name.removeprefix(_BODY) if is_inside else name

    def initialize(self, seed: int) -> None:
        """Draw all weights: those of the trunk, and a head of its own N(0, 0.02²)."""
        generator = torch.Generator().manual_seed(seed)
        self.model.initialize(generator)
        if not self.config.tie_word_embeddings:
            with torch.no_grad():
                self.lm_head.weight.normal_(0.0, 0.02, generator=generator)

    @property
    def cached_per_token(self) -> int:
        """Numbers that a cache keeps of each token."""
        return self.model.cached_per_token

    @property
    def drop(self) -> float:
        """The trunk's dropout, active in training mode only."""
        return self.model.drop

    @drop.setter
    def drop(self, share: float) -> None:
        """Set it, from 0 (none) to below 1."""
        self.model.drop = share

    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """See `Trunk`."""
        return self.model.packed(tokens, lengths, kept)

    def new_cache(self, slots: int, capacity: int) -> Any:
        """See `Trunk`."""
        return self.model.new_cache(slots, capacity)

    def step(
        self,
        cache: Any,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """See `Trunk`."""
        return self.model.step(cache, tokens, positions, fresh, prefixes)

    def fill(self, cache: Any, slots: Tensor, segments: PackedSegments) -> Tensor:
        """See `Trunk`."""
        return self.model.fill(cache, slots, segments)

    def value_trunk(self) -> Trunk:
        """A copy of the trunk."""
        return copy.deepcopy(self.model)

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, pad_token: str | None = None) -> Self:
        """Open a checkpoint directory, ours or transformers'; loading executes no code.

        :param pad_token: fills up rows instead of the token that the directory names. Where that
            one ends texts, a special token that no text needs takes its part, with a warning.
        :raises InputError: naming the file and what is wrong with it.
        """
        return from_pretrained(cls, directory, pad_token=pad_token)
