"""The hidden state at the last token of each row, at the price of one new token a row.

A pure function of the rows it is given: the key-value cache behind it is checked against their own
prefixes, and may be dropped at any time without changing a result. Legend: `n` rows, `L` their
width, `d` hidden size.
"""

import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.attention import CachedAttention, KVCache
from textgym.policies.causal_lm import Decoder
from textgym.policies.packing import pack_rows, row_lengths


class CachedDecoder:
    """One cache, one slot per row of its caller.

    :param decoder: whose weights must not change between two calls without `drop`; a change made
        through an optimizer or `load_state_dict` is noticed, one by a fused optimizer is not.
    :param pad_token_id: fills the rows to the right.
    :param use_cache: False computes every row anew, with the same result.
    """

    def __init__(self, decoder: Decoder, pad_token_id: int, *, use_cache: bool = True) -> None:
        self.decoder, self.pad_token_id, self.use_cache = decoder, pad_token_id, use_cache
        self.drop()

    def drop(self) -> None:
        """Forget everything."""
        self.cache: KVCache | None = None
        self.rows = self.known = self.hidden = self.pending = torch.empty(0)
        self.weights: tuple[Tensor, ...] = ()  # walking the module anew each step costs 1% of it
        self.version = -1

    def __call__(self, rows: Tensor) -> Tensor:
        """`rows [n, L]` int64, right-padded → hidden states `[n, d]` at their last tokens.

        :raises InputError: if a row is empty.
        """
        lengths = row_lengths(rows, self.pad_token_id)
        if not bool(lengths.all()):
            raise InputError("an observation without any token: prompts must not be empty")
        if not self.use_cache or torch.is_grad_enabled():  # a cache holds no graph
            return uncached(self.decoder, rows, lengths)
        try:
            return self._advance(rows, lengths)
        except BaseException:
            self.drop()  # Ctrl-C in the middle of a pass leaves it half written
            raise

    def _advance(self, rows: Tensor, lengths: Tensor) -> Tensor:
        self._fit(rows)
        last = lengths - 1
        before_last = torch.arange(rows.shape[1], device=rows.device) < last[:, None]
        is_known = ((rows == self.rows) | ~before_last).all(1) & (self.known >= last)
        is_answered = (rows == self.rows).all(1) & (self.known == lengths)
        if len(self.hidden) and bool(is_answered[is_known].all()):
            hidden = self._refill(rows, lengths, ~is_answered)
        else:
            hidden = self._step(rows, last, ~is_known & (last > 0))
        self.rows, self.known, self.hidden = rows.clone(), lengths, hidden
        self.pending = torch.empty(0)
        return hidden

    def expect(self, actions: Tensor) -> None:
        """Remember the tokens `[n]` just chosen for the rows of the last call."""
        if self.cache is not None and len(actions) == len(self.rows):
            self.pending = actions

    def peek(self, row: Tensor) -> Tensor | None:
        """The hidden state `[1, d]` of one row `[1, L]`, if it is a last row plus its chosen token.

        Stable-Baselines3 asks for the value of truncated rows one by one; the first such question
        runs the next step for all rows together, and the rows that go on use it too.
        """
        if self.cache is None or row.shape[1] != self.rows.shape[1] or self._is_stale():
            return None
        if len(self.pending) and int(self.known.max()) < row.shape[1]:
            slots = torch.arange(len(self.rows), device=row.device)
            ahead = self.rows.clone()
            ahead[slots, self.known] = self.pending
            if not bool((ahead == row).all(1).any()):
                return None
            self.hidden = self._step(ahead, self.known, torch.zeros_like(slots, dtype=torch.bool))
            self.rows, self.known = ahead, self.known + 1
            self.pending = torch.empty(0)
        is_same = (self.rows == row).all(1)
        return self.hidden[int(is_same.int().argmax())][None] if bool(is_same.any()) else None

    def _step(self, rows: Tensor, last: Tensor, is_fresh: Tensor) -> Tensor:
        """The last token of every row against the cache; fresh rows bring their prefix along."""
        assert self.cache is not None
        slots = torch.arange(len(rows), device=rows.device)
        fresh = slots[is_fresh]
        tokens, positions = rows[slots, last], last
        if len(fresh):
            prefix = pack_rows(rows[fresh], last[fresh])
            attention = CachedAttention(self.cache, last, fresh, last[fresh])
            tokens = torch.cat([tokens, prefix.tokens])
            positions = attention.write_positions
        else:
            attention = CachedAttention(self.cache, last, fresh, fresh)
        return self.decoder(tokens, positions, attention)[: len(rows)]  # type: ignore[no-any-return]

    def _refill(self, rows: Tensor, lengths: Tensor, is_fresh: Tensor) -> Tensor:
        """Whole rows for the fresh slots; the others were answered by the last call."""
        assert self.cache is not None
        if not bool(is_fresh.any()):
            return self.hidden
        fresh = torch.arange(len(rows), device=rows.device)[is_fresh]
        packed = pack_rows(rows[fresh], lengths[fresh])
        attention = CachedAttention(self.cache, lengths, fresh, lengths[fresh], steps=False)
        out = self.decoder(packed.tokens, attention.write_positions, attention)
        return self.hidden.index_copy(0, fresh, out[packed.acted_index])

    def _fit(self, rows: Tensor) -> None:
        """Make an empty cache, unless the one at hand has this shape and these weights."""
        is_of_shape = self.rows.shape == rows.shape and self.rows.device == rows.device
        if self.cache is not None and is_of_shape and not self._is_stale():
            return
        self.drop()
        self.cache = self.decoder.new_cache(rows.shape[0], rows.shape[1])
        self.rows = torch.full_like(rows, -1)
        self.known = torch.full_like(rows[:, 0], -1)
        self.weights = tuple(self.decoder.parameters())
        self.version = self._weights_version()

    def _is_stale(self) -> bool:
        return self.version != self._weights_version()

    def _weights_version(self) -> int:
        return sum(weight._version for weight in self.weights)


def uncached(decoder: Decoder, rows: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states `[n, d]` at the last tokens of `rows [n, L]` by one pass over all of them."""
    packed = pack_rows(rows, lengths)
    return decoder.packed(packed.tokens, packed.lengths)[packed.acted_index]
