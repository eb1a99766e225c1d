"""Attention of flat tokens: to their own segment (training), or to a cache as well (decoding).

A layer hands over flat `query [N, H, D]`, `key [N, K, D]`, `value [N, K, D]` (`H` query heads, `K`
key-value heads, `D` width of a head) and gets `[N, H, D]` back. Padding exists only inside.
Segments are right-padded for the attention kernel, so plain causal attention needs no mask: a real
token never looks to its right.
"""

from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from textgym.policies.language_model.packing import positions_of


class Attention(Protocol):
    """What a layer asks for."""

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend in layer number `layer`; see the module for the shapes."""


class SegmentAttention:
    """Causal attention inside each of `B` segments laid end to end.

    Segments that come longest first are padded in groups of nearly one length.

    :param lengths: `[B]` int64 on any device; they sum to the number of tokens.
    """

    def __init__(self, lengths: Tensor) -> None:
        self.groups = [_SegmentGroup(lengths[part]) for part in _similar(lengths.tolist())]

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if len(self.groups) == 1:
            return self.groups[0].attend(query, key, value)
        sizes = [group.size for group in self.groups]
        parts = zip(*(torch.split(flat, sizes) for flat in (query, key, value)), strict=True)
        attended = [group.attend(*part) for group, part in zip(self.groups, parts, strict=True)]
        return torch.cat(attended)


class _SegmentGroup:
    """Segments that are padded to the longest of them."""

    def __init__(self, lengths: Tensor) -> None:
        self.count, self.size = len(lengths), int(lengths.sum())
        self.longest = int(lengths.max()) if self.count else 0
        self.is_ragged = self.size != self.count * self.longest
        if self.is_ragged:
            rows, positions = positions_of(lengths)
            self.index = rows * self.longest + positions

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        padded = [self._pad(part) for part in (query, key, value)]
        out = _causal(*padded)
        flat = out.transpose(1, 2).reshape(self.count * self.longest, *query.shape[1:])
        return flat.index_select(0, self.index) if self.is_ragged else flat

    def _pad(self, flat: Tensor) -> Tensor:
        """`[N, heads, D]` → `[B, heads, T, D]`"""
        if self.is_ragged:
            # What stands in the padding is read by no real token, and `attend` leaves it out.
            size = (self.count * self.longest, *flat.shape[1:])
            flat = flat.new_zeros(size).index_copy(0, self.index, flat)
        return flat.view(self.count, self.longest, *flat.shape[1:]).transpose(1, 2)


def _similar(lengths: list[int]) -> list[slice]:
    """Runs of segments none of which is shorter than 3/4 of its run's longest.

    One run for all, unless they come longest first: a disorder would fall into tiny runs.
    """
    if lengths != sorted(lengths, reverse=True):
        return [slice(0, len(lengths))]
    starts = [0]
    for i, length in enumerate(lengths):
        if length < 0.75 * lengths[starts[-1]]:
            starts.append(i)
    return [slice(start, end) for start, end in pairwise([*starts, len(lengths)])]


class KVCache:
    """Keys and values of past tokens: one slot per row, slot position = sequence position.

    Slots stand at different lengths. A refilled slot needs no clearing: entries at or past a row's
    position are written before they are read, or excluded.

    :param slots: rows.
    :param capacity: positions of a slot.
    """

    def __init__(
        self,
        layers: int,
        slots: int,
        heads: int,
        capacity: int,
        head_dim: int,
        *,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        shape = (slots, heads, capacity, head_dim)
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(layers)]
        self.slots, self.heads, self.capacity = slots, heads, capacity


class CachedAttention:
    """One new token for every slot of a cache, and whole prefixes for some slots, in one pass.

    The flat tokens are `slots` new ones (at `positions`), if `steps`, then the prefixes end to end.

    :param cache: written in place.
    :param positions: `[slots]` int64, where each slot's new token stands.
    :param prefix_slots: `[k]` int64, slots whose first tokens come along; each at most once.
    :param prefix_lengths: `[k]` int64, how many.
    :param steps: False if only prefixes come.
    :param is_static: the new tokens look at all positions of the cache, under a bias: no shape and
        no branch then depends on a number that stands on the device.
    """

    def __init__(
        self,
        cache: KVCache,
        positions: Tensor,
        prefix_slots: Tensor,
        prefix_lengths: Tensor,
        *,
        steps: bool = True,
        is_static: bool = False,
    ) -> None:
        self.cache, self.steps = cache, steps
        self.new = cache.slots if steps else 0
        self.segments: SegmentAttention | None = None
        self.write_positions = positions[: self.new]
        slots = torch.arange(self.new, device=positions.device)
        if len(prefix_slots):
            self.segments = SegmentAttention(prefix_lengths)
            rows, prefix_positions = positions_of(prefix_lengths)
            slots = torch.cat([slots, prefix_slots[rows]])
            self.write_positions = torch.cat([self.write_positions, prefix_positions])
        self.bias: Tensor | None = None
        self.write_index: Tensor | None = None  # None: all rows at one position, a plain slice
        is_level = False
        if steps:
            self.end = cache.capacity
            if not is_static:
                lowest, highest = positions.aminmax()
                self.end = int(highest) + 1
                is_level = int(lowest) + 1 == self.end
            if not is_level:
                is_future = torch.arange(self.end, device=positions.device) > positions[:, None]
                # a float bias is faster than a bool mask in the CPU kernel
                bias = torch.zeros(is_future.shape, dtype=cache.keys[0].dtype, device=slots.device)
                self.bias = bias.masked_fill_(is_future, float("-inf"))[:, None, None, :]
        if not is_level or self.segments is not None:
            # Where each token's heads go in a cache seen as `[slots * heads * capacity, head_dim]`.
            heads = torch.arange(cache.heads, device=slots.device)
            start = (slots[:, None] * cache.heads + heads) * cache.capacity
            self.write_index = (start + self.write_positions[:, None]).flatten()

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        # Before anything is read: a token attends to itself too.
        self._write(keys, key)
        self._write(values, value)
        parts = []
        if self.steps:
            # Query heads that share a head of keys go in as its rows: all look at the same past,
            # and nothing is repeated.
            width = query.shape[-1]
            rows = query[: self.new].view(self.new, self.cache.heads, -1, width)
            past = keys[:, :, : self.end], values[:, :, : self.end]
            out = _attend(rows, *past, attn_mask=self.bias)
            parts.append(out.reshape(self.new, -1, width))
        if self.segments is not None:
            # A prefix stands in its slot from position 0: its own keys are all that it looks at.
            new = self.new
            parts.append(self.segments(layer, query[new:], key[new:], value[new:]))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _write(self, cached: Tensor, flat: Tensor) -> None:
        """`flat [N, heads, D]` into `cached [slots, heads, capacity, D]`."""
        if self.write_index is None:
            cached[:, :, self.end - 1] = flat
            return
        rows = flat.reshape(-1, flat.shape[-1]).to(cached.dtype)
        cached.view(-1, flat.shape[-1]).index_copy_(0, self.write_index, rows)


def _causal(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention `[B, H, T, D]` over `[B, K, T, D]`; query heads share those of the keys."""
    group = query.shape[1] // key.shape[1]
    if query.device.type == "cpu":
        return _attend(query, key, value, is_causal=True, enable_gqa=group > 1)
    if group > 1:  # not every kernel of a GPU takes fewer heads of keys
        key, value = key.repeat_interleave(group, dim=1), value.repeat_interleave(group, dim=1)
    return _attend(query, key, value, is_causal=True)


def _attend(query: Tensor, key: Tensor, value: Tensor, **keywords: Any) -> Tensor:
    """torch's attention; under autocast in float32 on a CPU, whose bfloat16 kernels are slower."""
    if not (query.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
        return scaled_dot_product_attention(query, key, value, **keywords)
    with torch.autocast("cpu", enabled=False):
        return scaled_dot_product_attention(query.float(), key.float(), value.float(), **keywords)
