"""A categorical distribution over tokens with one backward pass for the gradients of all weights.

sb3-contrib's TRPO asks autograd for the gradients of its objective and of the KL divergence one
weight tensor at a time, and keeps the graph of each divergence's gradient: some fifty backward
passes a rollout, and as many graphs, where one serves all of them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from stable_baselines3.common.distributions import CategoricalDistribution
from torch import Tensor
from torch.distributions import Categorical, register_kl


class _SharedBackward(torch.autograd.Function):
    """The identity on `rows`, as a function of `weights`; see `share_backward`."""

    @staticmethod
    def forward(ctx: Any, held: list[Tensor], *weights: Tensor) -> Tensor:
        ctx.held, ctx.weights, ctx.found = held, weights, {}
        return held[0].detach()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        is_twice = torch.is_grad_enabled()  # somebody differentiates the gradient again
        seen, gradients = ctx.found.get(is_twice, (None, ()))
        if seen is None or not torch.equal(seen, gradient):
            gradients = torch.autograd.grad(
                ctx.held[0],
                ctx.weights,
                gradient,
                retain_graph=True,
                create_graph=is_twice,
                allow_unused=True,
            )
            if not gradient.requires_grad:  # else the next one has a graph of its own
                ctx.found[is_twice] = gradient, gradients
        return None, *gradients


def share_backward(rows: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """`rows`, whose gradients for all `weights` are computed when the first of them is asked for.

    Gradients are those of `rows` itself, to every order.

    :param rows: `[A]` with a graph; without one it is returned as it is.
    :param weights: leaves of that graph; other leaves get no gradient.
    """
    if not rows.requires_grad:
        return rows
    return _SharedBackward.apply([rows], *weights)  # type: ignore[no-any-return, no-untyped-call]


class TokenCategorical(Categorical):
    """`Categorical` over finite logits `[A, v]` that knows which weights they come from."""

    def __init__(self, logits: Tensor, weights: Sequence[Tensor]) -> None:
        # TRPO tries steps without a gradient and takes back one whose KL is not a number.
        super().__init__(logits=logits, validate_args=torch.is_grad_enabled())
        self.weights = weights


@register_kl(TokenCategorical, TokenCategorical)  # type: ignore[no-untyped-call, untyped-decorator]
def _kl(p: TokenCategorical, q: TokenCategorical) -> Tensor:
    divergence = (p.probs * (p.logits - q.logits)).sum(-1)
    return share_backward(divergence, p.weights)


class TokenDistribution(CategoricalDistribution):
    """SB3's distribution of an action, over tokens.

    :param logits: `[A, v]`, finite: an impossible token has the lowest number.
    :param weights: what the logits depend on.
    """

    def __init__(self, logits: Tensor, weights: Sequence[Tensor]) -> None:
        super().__init__(logits.shape[-1])
        self.weights = weights
        self.proba_distribution(logits)

    def proba_distribution(self, action_logits: Tensor) -> "TokenDistribution":
        """Of other logits."""
        self.distribution: TokenCategorical = TokenCategorical(action_logits, self.weights)
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        """`[A]` of tokens `[A]`."""
        return share_backward(super().log_prob(actions), self.weights)
