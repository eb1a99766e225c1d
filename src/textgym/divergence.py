"""Numbers that are no longer finite, noticed before they are learned from, drawn from or saved."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from textgym.errors import DivergenceError

ADVICE = (
    "lower learning_rate, or the scale of the rewards, or max_grad_norm; the weights before this "
    "update are kept"
)

_ADVICE_FOR = {
    "rewards": "nothing was learned from them; bring rewards to about 1, in the reward model and "
    "in what wrappers make of them",
}
LARGEST_WEIGHT = 1e5  # no language model comes near


def refuse_bad_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer raise instead of taking a step along gradients that are not finite.

    The weights stay as they are then. It costs one pass over the gradients of each step.
    """
    optimizer.register_step_pre_hook(_check_gradients)


def _check_gradients(optimizer: torch.optim.Optimizer, *unused: Any) -> None:
    """:raises DivergenceError: naming the rate that was too high."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
    norm = float(nn.utils.get_total_norm([g for g in gradients if g is not None]))
    if not math.isfinite(norm):
        rate = max(group["lr"] for group in optimizer.param_groups)
        raise DivergenceError(
            f"the training diverged: the norm of the gradients is {norm} (learning rate now "
            f"{rate:g}); {ADVICE}"
        )


def check_arrays(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises unless all numbers are finite in single precision.

    :param arrays: float arrays by what they are ("rewards").
    :raises DivergenceError: naming the first that is not, and where it stands.
    """
    for name, array in arrays.items():
        is_bad = ~(np.abs(array) <= np.finfo(np.float32).max)
        if is_bad.any():
            raise DivergenceError(
                f"the {name} of this rollout are not finite in single precision ({is_bad.sum()} of "
                f"{array.size}, such as {array[is_bad][0]:g}): {_ADVICE_FOR.get(name, ADVICE)}"
            )


def check_weights(weights: Iterable[tuple[str, Tensor]], largest: float = math.inf) -> None:
    """Raises unless all weights are finite, and none beyond `largest`.

    :param weights: as `module.state_dict().items()`.
    :raises DivergenceError: naming the first that is not.
    """
    for name, tensor in weights:
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        size = float(tensor.detach().abs().max())
        if not size <= largest or math.isinf(size):
            raise DivergenceError(
                f"the training diverged: the weights {name!r} are up to {size:g}, so they are not "
                "saved: lower learning_rate, or the scale of the rewards, or max_grad_norm"
            )
