"""Packed sequences: ragged ones as flat tensors, so that no linear layer ever sees padding.

Legend: `B` segments (or rows), `N` tokens in all, `A` acted positions (where the policy chose a
token), `L` width of a padded row, `T` longest segment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class PackedSegments:
    """Token sequences laid end to end, and the positions whose next token the policy chose.

    :param tokens: `[N]` int64, the segments one after the other.
    :param lengths: `[B]` int64, tokens of each segment; they sum to `N`.
    :param acted_index: `[A]` int64 into `tokens`: the last token that the policy saw when it acted.
    """

    tokens: Tensor
    lengths: Tensor
    acted_index: Tensor

    def __len__(self) -> int:
        return int(self.acted_index.shape[0])

    def __getitem__(self, selection: slice) -> "PackedSegments":
        """A subset of the acted positions over the same tokens (TRPO's sub-sampling)."""
        return PackedSegments(self.tokens, self.lengths, self.acted_index[selection])

    def to(self, device: torch.device | str) -> "PackedSegments":
        """The same on another device."""
        return PackedSegments(
            self.tokens.to(device), self.lengths.to(device), self.acted_index.to(device)
        )


def pack_segments(tokens: Sequence[np.ndarray], acted: Sequence[np.ndarray]) -> PackedSegments:
    """Segments laid end to end.

    :param tokens: integers, one array a segment.
    :param acted: integers, for each segment the places in it of the last tokens seen.
    """
    nothing = np.zeros(0, dtype=np.int64)  # no segment at all is a batch too
    lengths = np.array([len(part) for part in tokens], dtype=np.int64)
    starts = lengths.cumsum() - lengths
    places = [part + start for part, start in zip(acted, starts, strict=True)]
    return PackedSegments(
        torch.as_tensor(np.concatenate([nothing, *tokens])),
        torch.as_tensor(lengths),
        torch.as_tensor(np.concatenate([nothing, *places])),
    )


def pack_sequences(sequences: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Lists of token ids as `(tokens [N], lengths [B])`, int64."""
    lengths = torch.tensor([len(sequence) for sequence in sequences], dtype=torch.int64)
    flat = [token for sequence in sequences for token in sequence]
    return torch.tensor(flat, dtype=torch.int64), lengths


def equal_parts(sizes: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Places 0 to B - 1, in their order, cut where the counts come closest to equal shares.

    There are `round(total / batch_size)` parts, at least one and at most B, and none is empty.

    :param sizes: int64 `[B]`, what each segment counts.
    """
    total = int(sizes.sum())
    count = min(max(1, round(total / batch_size)), len(sizes))
    # The number of segments whose middle lies before each equal share.
    cuts = np.searchsorted(sizes.cumsum() - sizes / 2, np.arange(1, count) * total / count)
    # Where a segment is longer than a share, two cuts meet: push them apart, to the right and then,
    # where the end is too near, to the left.
    rank = np.arange(count - 1)
    cuts = np.maximum(np.maximum.accumulate(cuts - rank) + rank, rank + 1)
    cuts = np.minimum(cuts, len(sizes) - len(cuts) + rank)
    return np.split(np.arange(len(sizes)), cuts)


def budget_groups(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Places 0 to B - 1, longest segment first, cut where a group would exceed some tokens.

    Segments of nearly one length stand together, so that the attention pads little; one that is
    longer than the budget is a group of its own.
    """
    groups: list[list[int]] = []
    count = 0
    for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not groups or count + lengths[i] > budget:
            groups.append([])
            count = 0
        groups[-1].append(i)
        count += lengths[i]
    return groups


def parts_of(packed: PackedSegments, budget: int) -> list[PackedSegments]:
    """Whole segments in their order, cut where a part would exceed some tokens.

    :param packed: whose acted positions never fall.
    :param budget: tokens of a part; a longer segment is a part of its own.
    """
    cuts, count = [0], 0
    for i, length in enumerate(packed.lengths.tolist()):
        if count and count + length > budget:
            cuts.append(i)
            count = 0
        count += length
    lengths = [packed.lengths[i:j] for i, j in pairwise([*cuts, len(packed.lengths)])]
    ends = torch.stack([part.sum() for part in lengths]).cumsum(0)
    acted = torch.searchsorted(packed.acted_index, ends).tolist()
    parts, start, first = [], 0, 0
    for part, end, last in zip(lengths, ends.tolist(), acted, strict=True):
        index = packed.acted_index[first:last] - start
        parts.append(PackedSegments(packed.tokens[start:end], part, index))
        start, first = end, last
    return parts


def row_lengths(rows: Tensor, pad_token_id: int) -> Tensor:
    """`[B]` int64: one past the last token of each row of `[B, L]` that is not padding."""
    position = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    return ((rows != pad_token_id) * position).amax(dim=1)


def array_row_lengths(rows: np.ndarray, pad_token_id: int) -> np.ndarray:
    """As `row_lengths`, int64 `[B]` from an array `[B, L]`."""
    position = np.arange(1, rows.shape[1] + 1)
    lengths: np.ndarray = ((rows != pad_token_id) * position).max(1)
    return lengths


def pack_rows(rows: Tensor, lengths: Tensor) -> PackedSegments:
    """Right-padded rows `[B, L]` as segments that act at their last token."""
    # Boolean indexing reads row by row, so the flat tokens lie end to end in the rows' order.
    is_token = torch.arange(rows.shape[1], device=rows.device) < lengths[:, None]
    return PackedSegments(rows[is_token], lengths, lengths.cumsum(0) - 1)


def positions_of(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Row and position of each flat token: two `[N]` int64 tensors, from `lengths [B]`."""
    rows = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)
    starts = lengths.cumsum(0) - lengths  # where each segment begins among the flat tokens
    return rows, torch.arange(len(rows), device=lengths.device) - starts[rows]
