"""Encoder and decoder as transformers: the language model's own decoder, with z in its embeddings.

Legend: as in `trunks`.
"""

import torch
from torch import Tensor, nn

from textgym.policies.language_model.attention import (
    CachedAttention,
    KVCache,
    SegmentAttention,
)
from textgym.policies.language_model.decoder import Decoder
from textgym.policies.language_model.packing import PackedSegments, positions_of
from textgym.policies.vae.config import TextVAEConfig
from textgym.policies.vae.trunks import Reader, Writer


class TransformerReader(Reader):
    """The hidden state at the last token, which has read all others."""

    def __init__(self, config: TextVAEConfig) -> None:
        super().__init__()
        self.model = Decoder(config.transformer)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """See `Reader`."""
        return self.model.packed(tokens, lengths, lengths.cumsum(0) - 1)


class TransformerWriter(Writer):
    """z is mapped to the width of the embeddings and added to each of them.

    So it is there at every token, and in the first layer's keys and values of all earlier ones.
    """

    def __init__(self, config: TextVAEConfig) -> None:
        super().__init__()
        self.model = Decoder(config.transformer)
        self.latent_proj = nn.Linear(config.latent_size, config.hidden_size, bias=False)

    def packed(
        self, tokens: Tensor, lengths: Tensor, latents: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """See `Writer`."""
        rows, positions = positions_of(lengths)
        added = self.latent_proj(latents)[rows]
        return self.model(tokens, positions, SegmentAttention(lengths), kept, added)  # type: ignore[no-any-return]

    def new_cache(self, slots: int, capacity: int) -> KVCache:
        """See `Writer`."""
        return self.model.new_cache(slots, capacity)

    def step(
        self,
        cache: KVCache,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
        latents: Tensor,
    ) -> Tensor:
        """See `Writer`; the prefixes come along in the same pass."""
        lengths = fresh if prefixes is None else prefixes.lengths
        attention = CachedAttention(cache, positions, fresh, lengths)
        added = self.latent_proj(latents)
        if prefixes is None:
            return self.model(tokens, positions, attention, None, added)  # type: ignore[no-any-return]
        kept = torch.arange(len(tokens), device=tokens.device)
        tokens = torch.cat([tokens, prefixes.tokens])
        added = torch.cat([added, added[fresh[positions_of(prefixes.lengths)[0]]]])
        return self.model(tokens, attention.write_positions, attention, kept, added)  # type: ignore[no-any-return]

    def fill(
        self, cache: KVCache, slots: Tensor, segments: PackedSegments, latents: Tensor
    ) -> Tensor:
        """See `Writer`."""
        attention = CachedAttention(cache, segments.lengths, slots, segments.lengths, steps=False)
        positions, kept = attention.write_positions, segments.acted_index
        added = self.latent_proj(latents[slots])[positions_of(segments.lengths)[0]]
        return self.model(segments.tokens, positions, attention, kept, added)  # type: ignore[no-any-return]
