"""What is computed from logits, some rows at a time: no `[tokens, vocabulary]` outlives its chunk.

Two such tensors stand in memory where an update takes log-probabilities and entropies of all its
tokens at once: logits and their gradient. For 4,096 tokens of 49,152 that is 1.6 GB. In chunks each
stands only while its rows are at work: in the backward pass a chunk's logits are computed anew, one
more product with the head, but for those of the last, which that pass begins with. Each row's
result is the same.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Logits that stand in memory at a time, 256 MiB in float32. What fits is one chunk, computed once:
# below it memory is no matter, and the second product costs time (docs/memory.md has figures).
LARGEST = 2**26


def in_chunks(
    of_rows: Callable[[Tensor, slice], tuple[Tensor, ...]], hidden: Tensor, width: int
) -> tuple[Tensor, ...]:
    """Outputs of a function of rows, joined.

    :param of_rows: from `[n, d]` of the rows of a slice to tensors `[n]`; it does the same when it
        is called again.
    :param hidden: `[A, d]`, the hidden states that the logits come from.
    :param width: logits of a row.
    """
    size = max(1, LARGEST // width)
    # Whole chunks at the end, of which the last is kept: the fewer rows are computed twice.
    starts = [*range(len(hidden) - size, 0, -size), 0][::-1]
    found: list[tuple[Tensor, ...]] = []
    for start, end in pairwise([*starts, len(hidden)]):
        rows, part = hidden[start:end], slice(start, end)
        if torch.is_grad_enabled() and end < len(hidden):
            found.append(
                checkpoint(of_rows, rows, part, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            found.append(of_rows(rows, part))
    if len(found) == 1:
        return found[0]
    return tuple(torch.cat(outputs) for outputs in zip(*found, strict=True))
