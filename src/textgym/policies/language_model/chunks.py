"""What is computed from logits, some rows at a time: no `[tokens, vocabulary]` outlives its chunk.

Four such tensors stand in memory where an update takes log-probabilities and entropies of all its
tokens at once: logits, log-probabilities, probabilities and the gradient. For 4,096 tokens of
49,152 that is 3.2 GB. In chunks each stands only while its rows are at work; in the backward pass
a chunk's logits are computed anew, one more product with the head. Each row's result is the same.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

# Logits that stand in memory at a time, 128 MiB in float32. What fits is one chunk, computed once:
# below it memory is no matter, and the second product costs time (docs/memory.md has figures).
LARGEST = 2**25


def in_chunks(
    of_rows: Callable[[Tensor, slice], tuple[Tensor, ...]], hidden: Tensor, width: int
) -> tuple[Tensor, ...]:
    """Outputs of a function of rows, joined.

    :param of_rows: from `[n, d]` of the rows of a slice to tensors `[n]`; it does the same when it
        is called again.
    :param hidden: `[A, d]`, the hidden states that the logits come from.
    :param width: logits of a row.
    """
    count = max(1, math.ceil(len(hidden) * width / LARGEST))
    if count == 1:
        return of_rows(hidden, slice(0, len(hidden)))
    size = math.ceil(len(hidden) / count)
    parts = [slice(start, start + size) for start in range(0, len(hidden), size)]
    found: list[tuple[Tensor, ...]] = []
    for part in parts:
        rows = hidden[part]
        if torch.is_grad_enabled():
            found.append(
                checkpoint(of_rows, rows, part, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            found.append(of_rows(rows, part))
    return tuple(torch.cat(outputs) for outputs in zip(*found, strict=True))
