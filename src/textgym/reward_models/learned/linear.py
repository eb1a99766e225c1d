"""Fitting one weight per n-gram: a convex loss, an inverse-document-frequency prior, L-BFGS."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textgym.reward_models.learned.features import Features


class _BagSum(torch.autograd.Function):
    """Sum of weights per text, [buckets] -> [b]; `bincount` both ways.

    A third of the time of `embedding_bag`, whose backward pass is slow for single numbers.
    """

    @staticmethod
    def forward(ctx: Any, weights: Tensor, buckets: Tensor, rows: Tensor, texts: int) -> Tensor:
        ctx.save_for_backward(buckets, rows)
        ctx.size = len(weights)
        return torch.bincount(rows, weights=weights[buckets], minlength=texts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        buckets, rows = ctx.saved_tensors
        gradient = torch.bincount(buckets, weights=gradients[0][rows], minlength=ctx.size)
        return gradient, None, None, None


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Single numbers gain nothing from threads, and one thread adds them in a fixed order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit_linear(
    features: Features,
    loss: Callable[[Tensor], Tensor],
    *,
    buckets: int,
    l2: float,
    bias: float = 0.0,
    steps: int = 20,
) -> tuple[Tensor, float]:
    """Minimise loss(scores) + l2/2 · Σ (weight / idf)².

    Rare n-grams say more about a text, so their weights are given more room: idf of a bucket in d
    of b texts is 1 + log((1 + b) / (1 + d)) (the smoothed form of Spärck Jones 1972).

    :param loss: from scores float64 [b] to a number, convex.
    :param buckets: how many weights there are; those that no text uses stay 0.
    :param bias: where the unpenalised bias starts.
    :param steps: L-BFGS iterations; stopping early costs nothing that held-out texts notice.
    :returns: weights float32 [buckets] and the bias.
    """
    texts = len(features.offsets)
    all_rows = np.repeat(np.arange(texts), features.counts)
    order = np.argsort(features.buckets, kind="stable")  # by bucket: kind to the processor's cache
    used, places = np.unique(features.buckets[order], return_inverse=True)
    rows = all_rows[order]
    is_new = np.ones(len(rows), bool)  # first time that a text uses a bucket
    is_new[1:] = (rows[1:] != rows[:-1]) | (places[1:] != places[:-1])
    frequency = np.bincount(places[is_new], minlength=len(used))
    idf = torch.from_numpy(1.0 + np.log((1.0 + texts) / (1.0 + frequency)))
    scale = torch.from_numpy(np.maximum(features.counts, 1) ** -0.5)
    place_of, row_of = torch.from_numpy(places.astype(np.int64)), torch.from_numpy(rows)

    free = torch.zeros(len(used), dtype=torch.float64, requires_grad=True)
    shift = torch.tensor(bias, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [free, shift], max_iter=steps, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        sums: Tensor = _BagSum.apply(free * idf, place_of, row_of, texts)  # type: ignore[no-untyped-call]
        value = loss(sums * scale + shift) + 0.5 * l2 * free.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    with torch.enable_grad(), one_thread():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    weights = torch.zeros(buckets, dtype=torch.float32)
    weights[torch.from_numpy(used)] = (free.detach() * idf).float()
    return weights, float(shift.detach())
