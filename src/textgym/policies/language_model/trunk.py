"""The trunk's interface for policies, generation and evaluation: hidden states, packed and cached.

Legend: `N` flat tokens, `B` segments, `n` slots of a cache, `k` of them, `d` hidden size.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from textgym.policies.language_model.packing import PackedSegments


class Trunk(nn.Module, ABC):
    """A causal model from tokens to hidden states, which knows neither head nor tokenizer.

    A cache is whatever `new_cache` returns: one slot for each row of its caller, and in a slot one
    entry for each position, so that a row may go back, and its last token may come twice. Entries
    at or past a row's position are never read before they are written.
    """

    @abstractmethod
    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """Hidden states of segments laid end to end; none sees a token of another.

        :param tokens: `[N]` int64.
        :param lengths: `[B]` int64, tokens of each segment; they sum to `N`.
        :param kept: int64 into the tokens: only these hidden states are wanted.
        :return: `[N, d]`, or `[len(kept), d]`.
        """

    @abstractmethod
    def new_cache(self, slots: int, capacity: int) -> Any:
        """An empty cache of `slots` rows with `capacity` positions each."""

    @abstractmethod
    def step(
        self,
        cache: Any,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """One token for every slot, read against the cache, which is written in place.

        :param tokens: `[n]` int64.
        :param positions: `[n]` int64, where in its row each stands.
        :param fresh: `[k]` int64, slots whose rows begin anew.
        :param prefixes: the tokens before theirs, `k` segments; None if no slot is fresh.
        :return: `[n, d]`, the hidden states at these tokens.
        """

    @abstractmethod
    def fill(self, cache: Any, slots: Tensor, segments: PackedSegments) -> Tensor:
        """Whole rows for some slots; the others stay as they are.

        :param slots: `[k]` int64.
        :param segments: their rows, `k` segments that act at their last tokens.
        :return: `[k, d]`, the hidden states at the last tokens.
        """


class TokenTrunk(Trunk):
    """The trunk of a `CausalLM`: a table of embeddings, and what reads them.

    `drop` is the share that dropout puts to zero in training mode, set while a model is trained.
    """

    embed_tokens: nn.Embedding
    drop: float

    @property
    @abstractmethod
    def cached_per_token(self) -> int:
        """Numbers that a cache keeps of each token."""

    @abstractmethod
    def initialize(self, generator: torch.Generator) -> None:
        """Draw all weights."""

    def finish_loading(self) -> None:
        """Make what the state on disk does not hold."""
