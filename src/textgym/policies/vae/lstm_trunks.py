"""Encoder and decoder as LSTMs, the source document's own.

Bowman et al. 2016, "Generating Sentences from a Continuous Space". Legend: as in `trunks`, and `s`
layers.
"""

import torch
from torch import Tensor, nn

from textgym.policies.language_model.lstm import VariationalLSTM
from textgym.policies.language_model.packing import PackedSegments, positions_of
from textgym.policies.vae.config import TextVAEConfig
from textgym.policies.vae.trunks import Reader, Writer


class LSTMReader(Reader):
    """The hidden state behind the last token."""

    def __init__(self, config: TextVAEConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lstm = VariationalLSTM(
            config.hidden_size, config.hidden_size, config.num_hidden_layers
        )

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """See `Reader`."""
        _, state = self.lstm.packed(self.embed_tokens(tokens), lengths)
        return state[:, -1, 0]


class LSTMWriter(Writer):
    """z stands beside the embedding of every token.

    A cache is the state behind every token, `[n, capacity + 1, s, 2, d]`; the first is zero.
    """

    def __init__(self, config: TextVAEConfig) -> None:
        super().__init__()
        self.latent_scale = config.latent_scale
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.lstm = VariationalLSTM(
            config.hidden_size + config.latent_size, config.hidden_size, config.num_hidden_layers
        )

    def _inputs(self, tokens: Tensor, latents: Tensor) -> Tensor:
        """`tokens [N]`, `latents [N, l]` → `[N, d + l]`."""
        return torch.cat([self.embed_tokens(tokens), self.latent_scale * latents], -1)

    def packed(
        self, tokens: Tensor, lengths: Tensor, latents: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        """See `Writer`."""
        out, _ = self.lstm.packed(self._inputs(tokens, latents[positions_of(lengths)[0]]), lengths)
        return out if kept is None else out.index_select(0, kept)

    def new_cache(self, slots: int, capacity: int) -> Tensor:
        """See `Writer`."""
        state = self.lstm.initial_state(slots)
        return state[:, None].repeat(1, capacity + 1, 1, 1, 1)

    def step(
        self,
        cache: Tensor,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
        latents: Tensor,
    ) -> Tensor:
        """See `Writer`."""
        if prefixes is not None:
            self.fill(cache, fresh, prefixes, latents)
        slots = torch.arange(len(tokens), device=tokens.device)
        state = self.lstm.step(self._inputs(tokens, latents), cache[slots, positions])
        cache[slots, positions + 1] = state
        return state[:, -1, 0]

    def fill(
        self, cache: Tensor, slots: Tensor, segments: PackedSegments, latents: Tensor
    ) -> Tensor:
        """See `Writer`."""
        rows, positions = positions_of(segments.lengths)
        inputs = self._inputs(segments.tokens, latents[slots[rows]])
        states = self.lstm.states(inputs, segments.lengths)
        cache[slots[rows], positions + 1] = states
        return states[segments.acted_index, -1, 0]
