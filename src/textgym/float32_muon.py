"""Muon in float32, for processors that compute bfloat16 slowly.

torch's Muon orthogonalises in bfloat16. On a CPU without instructions for it that takes nine times
as long as forward and backward pass together (the start model, 1,280 tokens, an AMD EPYC with AVX2:
4.7 s beside 0.5); in float32 it takes 0.2 s.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def has_slow_bfloat16(device: torch.device) -> bool:
    """Whether a device is a CPU without instructions for products of bfloat16 matrices."""
    known: dict[str, Any] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # of torch 2.10 nobody can ask
    return device.type == "cpu" and not any(known[name] for name in known if name.endswith("bf16"))


class Float32Muon(torch.optim.Muon):
    """torch's Muon (Jordan et al. 2024), with the same state and keywords, step by step in float32.

    `adjust_lr_fn` is not taken: the rate of a matrix `[a, b]` is `lr · √max(1, a / b)`.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state, gradient = self.state[matrix], matrix.grad
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
                update = gradient.lerp(buffer, momentum) if group["nesterov"] else buffer
                update = orthogonalized(
                    update, group["ns_coefficients"], group["ns_steps"], group["eps"]
                )
                rows, columns = matrix.shape
                matrix.mul_(1 - lr * group["weight_decay"])
                matrix.add_(update.to(matrix.dtype), alpha=-lr * math.sqrt(max(1, rows / columns)))
        return loss


def orthogonalized(matrix: Tensor, coefficients: Sequence[float], steps: int, eps: float) -> Tensor:
    """About U Vᵀ of a matrix U S Vᵀ, by Newton and Schulz's iteration of the fifth degree.

    Its singular values come to lie around 1, from 0.7 to 1.2 (Jordan et al. 2024).

    :param matrix: `[a, b]`.
    :param coefficients: of x, x³ and x⁵.
    :param eps: the least norm to divide by.
    :return: float32 `[a, b]`.
    """
    a, b, c = coefficients
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if is_tall else matrix).float()
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x
