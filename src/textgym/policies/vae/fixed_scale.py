"""Posterior means that are kept apart: their spread over texts is fixed, so z cannot be closed."""

import torch
from torch import Tensor, nn

_MOMENTUM = 0.1
# Below any variance that an encoder of fresh weights has (1e-7 in a narrow one): a larger number
# would let it close z by making its numbers small.
_EPSILON = 1e-12


class FixedScale(nn.Module):
    """Each dimension normalized over the batch, then scaled: batch normalization of fixed scale.

    Zhu et al. 2020, "A Batch Normalized Inference Network Keeps the KL Vanishing Away": with
    variance `scale`² over texts, the KL term is at least `scale`² / 2 nats a dimension, whatever
    the encoder does. In evaluation mode the statistics are running means of the training's, which
    begin as those of the first batch.

    :param size: dimensions.
    :param scale: standard deviation of the means over texts, above 0.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, size: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("running_mean", torch.zeros(size))
        self.register_buffer("running_variance", torch.ones(size))

    def reset(self) -> None:
        """As before any batch."""
        self.running_mean.zero_()
        self.running_variance.fill_(1.0)

    def forward(self, values: Tensor) -> Tensor:
        """`[b, size]` → the same shape."""
        mean, variance = self.running_mean, self.running_variance
        if self.training and len(values) > 1:
            mean, variance = values.mean(0), values.var(0, correction=0)
            with torch.no_grad():
                share = 1.0 if self._saw_none() else _MOMENTUM
                self.running_mean.lerp_(mean, share)
                self.running_variance.lerp_(variance, share)
        return self.scale * (values - mean) * (variance + _EPSILON).rsqrt()

    def _saw_none(self) -> bool:
        """Whether the statistics are still those of `reset`."""
        return bool((self.running_mean == 0).all() and (self.running_variance == 1).all())
