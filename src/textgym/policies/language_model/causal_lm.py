"""The language model of transformers' Llama family: our decoder and a head."""

import copy
import math
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from textgym.checks import check_numbers
from textgym.policies.language_model.attention import KVCache
from textgym.policies.language_model.checkpoint import from_pretrained
from textgym.policies.language_model.decoder import CausalLMConfig, Decoder, inverse_frequencies
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.language_model.trunk import Trunk
from textgym.tokenizer import Tokenizer


class CausalLM(LanguageModel):
    """A causal language model with its tokenizer.

    :param config: its shape.
    :param tokenizer: its tokenizer; `vocab_size` must not exceed the model's.
    :raises InputError: if the two do not fit.
    """

    config: CausalLMConfig

    def __init__(self, config: CausalLMConfig, tokenizer: Tokenizer) -> None:
        super().__init__(config, tokenizer)
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @classmethod
    def new(cls, tokenizer: Tokenizer, *, seed: int = 0, **config: Any) -> Self:
        """A fresh model with random weights (its own generator; the global one is not touched).

        :param config: fields of `CausalLMConfig`; `vocab_size` is the tokenizer's if left out.
        """
        check_numbers({"seed": seed})
        shape = CausalLMConfig.filled_in(**{"vocab_size": tokenizer.vocab_size, **config})
        shape.check_memory()
        with torch.device("meta"):
            lm = cls(shape, tokenizer)
        lm.to_empty(device="cpu")
        lm.finish_loading()
        lm.initialize(seed)
        return lm

    def finish_loading(self) -> None:
        """The tie of head and embeddings, and the rotary frequencies."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.model.inv_freq = inverse_frequencies(self.config)

    def initialize(self, seed: int) -> None:
        """Draw all weights: N(0, 0.02²), branches into the residual scaled by 1/√(2·layers)."""
        generator = torch.Generator().manual_seed(seed)
        residual_std = 0.02 / math.sqrt(2 * self.config.num_hidden_layers)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("norm.weight"):
                    parameter.fill_(1.0)
                elif name.endswith("bias"):
                    parameter.zero_()
                else:
                    is_branch = name.endswith(("o_proj.weight", "down_proj.weight"))
                    parameter.normal_(0.0, residual_std if is_branch else 0.02, generator=generator)

    @classmethod
    def fresh(cls, config: CausalLMConfig, tokenizer: Tokenizer, *, seed: int) -> Self:
        """As `new`, of a given shape."""
        return cls.new(tokenizer, seed=seed, **vars(config))

    @property
    def cached_per_token(self) -> int:
        """Numbers that a cache keeps of each token: its keys and values in every layer."""
        config = self.config
        return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim

    @property
    def drop(self) -> float:
        """The decoder's dropout, active in training mode only."""
        return self.model.drop

    @drop.setter
    def drop(self, share: float) -> None:
        """Set it, from 0 (none) to below 1."""
        self.model.drop = share

    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """See `Trunk`."""
        return self.model.packed(tokens, lengths, kept)

    def new_cache(self, slots: int, capacity: int) -> KVCache:
        """See `Trunk`."""
        return self.model.new_cache(slots, capacity)

    def step(
        self,
        cache: KVCache,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """See `Trunk`."""
        return self.model.step(cache, tokens, positions, fresh, prefixes)

    def fill(self, cache: KVCache, slots: Tensor, segments: PackedSegments) -> Tensor:
        """See `Trunk`."""
        return self.model.fill(cache, slots, segments)

    def value_trunk(self) -> Trunk:
        """A copy of the decoder."""
        return copy.deepcopy(self.model)

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, pad_token: str | None = None) -> Self:
        """Open a checkpoint directory, ours or transformers'; loading executes no code.

        :param pad_token: fills up rows instead of the token that the directory names. Where that
            one ends texts, a special token that no text needs takes its part, with a warning.
        :raises InputError: naming the file and what is wrong with it.
        """
        return from_pretrained(cls, directory, pad_token=pad_token)
