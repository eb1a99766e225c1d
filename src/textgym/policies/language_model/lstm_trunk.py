"""The trunk of a recurrent language model: embeddings and layers of long short-term memory.

Each layer stands behind a norm and beside a residual, as those of the decoder do: the bare stack
took five times as many steps to the same loss.

Its state after a token is all that it knows of a row, so the cache keeps the states: one entry for
each position of a slot, of `2 l d` numbers, as many as keys and values of a decoder of its width
and depth would be. A row that goes back finds the state that it had there.

Legend: `N` flat tokens, `n` slots, `k` of them, `d` hidden size, `l` layers.
"""

import torch
from torch import Tensor, nn

from textgym.policies.language_model.decoder import RMSNorm
from textgym.policies.language_model.lstm import VariationalLSTM
from textgym.policies.language_model.lstm_config import LSTMConfig
from textgym.policies.language_model.packing import PackedSegments, positions_of
from textgym.policies.language_model.trunk import TokenTrunk


class LSTMBlock(nn.Module):
    """One layer, its norm in front."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lstm = VariationalLSTM(config.hidden_size, config.hidden_size)


class LSTMTrunk(TokenTrunk):
    """Embeddings, layers and the final norm; every segment begins with a state of zeros."""

    def __init__(self, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(LSTMBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def _blocks(self) -> list[LSTMBlock]:
        return [block for block in self.layers if isinstance(block, LSTMBlock)]

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """Embeddings N(0, 0.02²); for the layers see `LSTMLayer`."""
        self.embed_tokens.weight.normal_(0.0, 0.02, generator=generator)
        self.norm.weight.fill_(1.0)
        for block in self._blocks():
            block.norm.weight.fill_(1.0)
            block.lstm.reset_parameters(generator)

    @property
    def drop(self) -> float:
        """Variational dropout; active in training mode only."""
        return self._blocks()[0].lstm.drop

    @drop.setter
    def drop(self, share: float) -> None:
        """Set it, from 0 (none) to below 1."""
        for block in self._blocks():
            block.lstm.drop = share

    @property
    def cached_per_token(self) -> int:
        """Hidden state and cell of every layer."""
        return 2 * self.config.num_hidden_layers * self.config.hidden_size

    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """See `Trunk`."""
        x = self.embed_tokens(tokens)
        for block in self._blocks():
            x = x + block.lstm.packed(block.norm(x), lengths)[0]
        return self._normed(x if kept is None else x.index_select(0, kept))

    def new_cache(self, slots: int, capacity: int) -> Tensor:
        """`[slots, capacity + 1, l, 2, d]`: at place p the state after p tokens, 0 after none."""
        config = self.config
        shape = (slots, capacity + 1, config.num_hidden_layers, 2, config.hidden_size)
        return self.embed_tokens.weight.new_zeros(shape)

    def step(
        self,
        cache: Tensor,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """See `Trunk`."""
        if prefixes is not None:
            self._write(cache, fresh, prefixes)
        slots = torch.arange(len(tokens), device=tokens.device)
        x, before = self.embed_tokens(tokens), cache[slots, positions]
        after = []
        for i, block in enumerate(self._blocks()):
            after.append(block.lstm.step(block.norm(x), before[:, i : i + 1]))
            x = x + after[-1][:, 0, 0]
        cache[slots, positions + 1] = torch.cat(after, 1)
        return self._normed(x)

    def fill(self, cache: Tensor, slots: Tensor, segments: PackedSegments) -> Tensor:
        """See `Trunk`."""
        return self._normed(self._write(cache, slots, segments)[segments.acted_index])

    def _write(self, cache: Tensor, slots: Tensor, segments: PackedSegments) -> Tensor:
        """Keep the states after each of some slots' first tokens; `[N, d]` before the last norm."""
        x: Tensor = self.embed_tokens(segments.tokens)
        states = []
        for block in self._blocks():
            states.append(block.lstm.states(block.norm(x), segments.lengths))
            x = x + states[-1][:, 0, 0]
        rows, positions = positions_of(segments.lengths)
        cache[slots[rows], positions + 1] = torch.cat(states, 1)
        return x

    def _normed(self, x: Tensor) -> Tensor:
        return self.norm(x)  # type: ignore[no-any-return]
