"""The two halves of a text variational autoencoder: what reads a text, and what writes one from z.

Legend: `N` flat tokens, `B` segments, `n` slots of a cache, `k` of them, `d` hidden size, `l`
latent size.
"""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from textgym.policies.language_model.packing import PackedSegments


class Reader(nn.Module, ABC):
    """The encoder below its last layer: what a text comes to."""

    @abstractmethod
    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """One vector for each segment.

        :param tokens: `[N]` int64, segments laid end to end.
        :param lengths: `[B]` int64.
        :return: `[B, d]`.
        """


class Writer(nn.Module, ABC):
    """The decoder below its head: a `Trunk` that sees z at every token.

    As with a `Trunk`, a cache has one slot for each row and in it one entry for each position.
    """

    @abstractmethod
    def packed(
        self, tokens: Tensor, lengths: Tensor, latents: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """Hidden states of segments laid end to end.

        :param tokens: `[N]` int64.
        :param lengths: `[B]` int64.
        :param latents: `[B, l]` float, z of each segment.
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
        latents: Tensor,
    ) -> Tensor:
        """One token for every slot; see `Trunk.step`.

        :param latents: `[n, l]` float, z of each slot.
        :return: `[n, d]`.
        """

    @abstractmethod
    def fill(self, cache: Any, slots: Tensor, segments: PackedSegments, latents: Tensor) -> Tensor:
        """Whole rows for some slots; see `Trunk.fill`.

        :param latents: `[n, l]` float, z of each slot.
        :return: `[k, d]`.
        """
