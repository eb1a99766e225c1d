"""Decoding with a key-value cache: a row's last hidden state for the price of one new token.

A pure function of the rows it is given: the key-value cache behind it is checked against their own
prefixes, and may be dropped at any time without changing a result. Legend: `n` rows, `L` their
width, `d` hidden size.
"""

from typing import Any

import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.packing import pack_rows, row_lengths
from textgym.policies.language_model.precision import autocast, with_half_products
from textgym.policies.language_model.trunk import Trunk


class CachedDecoder:
    """One cache, one slot per row of its caller.

    :param trunk: whose weights must not change between two calls without `drop`; a change made
        through an optimizer or `load_state_dict` is noticed, one by a fused optimizer is not.
    :param pad_token_id: fills the rows to the right.
    :param use_cache: False computes every row anew, with the same result.
    :param dtype: of the trunk's products; see `precision`.

    `decoding` is the trunk as it decodes, for whoever reads its head behind the hidden states: one
    with its weights in `dtype` while there is a cache, `trunk` itself where that is float32.
    """

    def __init__(
        self,
        trunk: Trunk,
        pad_token_id: int,
        *,
        use_cache: bool = True,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.trunk, self.pad_token_id, self.use_cache = trunk, pad_token_id, use_cache
        self.dtype = dtype
        self.drop()

    def drop(self) -> None:
        """Forget everything."""
        self.cache: Any = None
        self.decoding = self.trunk
        self.rows = self.known = self.hidden = self.pending = torch.empty(0)
        self.weights: tuple[Tensor, ...] = ()  # walking the module anew each step costs 1% of it
        self.version = -1

    def __call__(self, rows: Tensor) -> Tensor:
        """`rows [n, L]` int64, right-padded → hidden states `[n, d]` at their last tokens.

        :raises InputError: if a row is empty.
        """
        try:
            with autocast(rows.device, self.dtype):
                if not self.use_cache or torch.is_grad_enabled():  # a cache holds no graph
                    return uncached(self.trunk, rows, self._lengths(rows))
                return self._answer(rows)
        except BaseException:
            self.drop()  # Ctrl-C in the middle of a pass leaves it half written
            raise

    def _lengths(self, rows: Tensor) -> Tensor:
        lengths = row_lengths(rows, self.pad_token_id)
        if not bool(lengths.all()):
            raise InputError("an observation without any token: prompts must not be empty")
        return lengths

    def _answer(self, rows: Tensor) -> Tensor:
        self._fit(rows)
        ahead = self._ahead()
        if ahead is not None and torch.equal(ahead, rows):
            return self._advance(ahead)  # the usual case, told at little cost
        lengths = self._lengths(rows)
        last = lengths - 1
        # The cache may answer for a row only where it holds all of its tokens but the last, and
        # holds these very ids: a refilled row, or one that somebody changed, brings its prefix.
        before_last = torch.arange(rows.shape[1], device=rows.device) < last[:, None]
        is_same = rows == self.rows
        is_known = (is_same | ~before_last).all(1) & (self.known >= last)
        is_answered = is_same.all(1) & (self.known == lengths)
        if bool(is_answered.any()) and bool((is_answered | ~is_known).all()):
            # Some rows ask again, the others are new: no row needs a step of its own.
            hidden = self._refill(rows, lengths, ~is_answered)
        else:
            fresh = (~is_known & (last > 0)).nonzero()[:, 0]
            hidden = self._step(rows, last, fresh)
        self.rows, self.known, self.hidden = rows.clone(), lengths, hidden
        self.pending = torch.empty(0)
        return hidden

    def expect(self, actions: Tensor) -> None:
        """Remember the tokens `[n]` just chosen for the rows of the last call."""
        is_known = self.cache is not None and len(actions) == len(self.rows)
        if is_known and not bool((actions == self.pad_token_id).any()):
            self.pending = actions

    def peek(self, row: Tensor) -> Tensor | None:
        """The hidden state `[1, d]` of one row `[1, L]`, if it is a last row plus its chosen token.

        Stable-Baselines3 asks for the value of truncated rows one by one; the first such question
        runs the next step for all rows together, and the rows that go on use it too.
        """
        if self.cache is None or row.shape[1] != self.rows.shape[1] or self._is_stale():
            return None
        ahead = self._ahead()
        if ahead is not None:
            if not bool((ahead == row).all(1).any()):
                return None
            with autocast(row.device, self.dtype):
                self._advance(ahead)
        is_same = (self.rows == row).all(1)
        return self.hidden[int(is_same.int().argmax())][None] if bool(is_same.any()) else None

    def _ahead(self) -> Tensor | None:
        """The last rows with the tokens chosen for them, if those are known and there is room."""
        if not len(self.pending) or int(self.known.max()) >= self.rows.shape[1]:
            return None
        return self.rows.scatter(1, self.known[:, None], self.pending[:, None].to(self.rows.dtype))

    def _advance(self, ahead: Tensor) -> Tensor:
        """One step for all rows together: each has one token more than it had."""
        hidden = self._step(ahead, self.known, self.known[:0])
        self.rows, self.known, self.hidden = ahead, self.known + 1, hidden
        self.pending = torch.empty(0)
        return hidden

    def _step(self, rows: Tensor, last: Tensor, fresh: Tensor) -> Tensor:
        """The last token of every row against the cache; `fresh` rows bring their prefix along."""
        tokens = rows.gather(1, last[:, None])[:, 0]
        prefixes = pack_rows(rows[fresh], last[fresh]) if len(fresh) else None
        return self.decoding.step(self.cache, tokens, last, fresh, prefixes)

    def _refill(self, rows: Tensor, lengths: Tensor, is_fresh: Tensor) -> Tensor:
        """Whole rows for the fresh slots; the others were answered by the last call."""
        if not bool(is_fresh.any()):
            return self.hidden
        fresh = torch.arange(len(rows), device=rows.device)[is_fresh]
        packed = pack_rows(rows[fresh], lengths[fresh])
        return self.hidden.index_copy(0, fresh, self.decoding.fill(self.cache, fresh, packed))

    def _fit(self, rows: Tensor) -> None:
        """Make an empty cache, unless the one at hand has this shape and these weights."""
        is_of_shape = self.rows.shape == rows.shape and self.rows.device == rows.device
        if self.cache is not None and is_of_shape and not self._is_stale():
            return
        self.drop()
        if self.dtype == torch.bfloat16:
            self.decoding = with_half_products(self.trunk)
        self.cache = self.decoding.new_cache(rows.shape[0], rows.shape[1])
        self.rows = torch.full_like(rows, -1)
        self.known = torch.full_like(rows[:, 0], -1)
        self.weights = tuple(self.trunk.parameters())
        self.version = self._weights_version()

    def _is_stale(self) -> bool:
        return self.version != self._weights_version()

    def _weights_version(self) -> int:
        return sum(weight._version for weight in self.weights)


def uncached(trunk: Trunk, rows: Tensor, lengths: Tensor) -> Tensor:
    """Hidden states `[n, d]` at the last tokens of `rows [n, L]` by one pass over all of them."""
    packed = pack_rows(rows, lengths)
    return trunk.packed(packed.tokens, packed.lengths, packed.acted_index)
