"""The diagonal Gaussian of a variational autoencoder, against a standard normal prior.

Kingma and Welling 2014, "Auto-Encoding Variational Bayes". Legend: `b` rows, `l` latent size.
"""

import math

import torch
from torch import Tensor


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) ‖ N(0, 1)) in nats, of each dimension (Kingma and Welling, appendix B).

    :param mean: `[..., l]` float; `log_variance` of the same shape.
    :return: `[..., l]`, at least 0.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)


def draw_latents(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> Tensor:
    """z = mean + standard deviation · noise, through which gradients flow: `[..., l]`.

    :param generator: on the CPU, so that draws are the same on every device.
    """
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * noise.to(mean.device)


def squared_covariances(mean: Tensor) -> Tensor:
    """How far the dimensions of posterior means say the same: a scalar, 0 where none does.

    The sum of cov(mean_i, mean_j)² over the rows, of all i ≠ j (Kumar et al. 2018, "Variational
    Inference of Disentangled Latent Concepts from Unlabeled Observations", DIP-VAE-I).

    :param mean: `[b, l]`.
    """
    centered = mean - mean.mean(0)
    covariance = centered.T @ centered / max(len(mean), 1)
    return covariance.square().sum() - covariance.diagonal().square().sum()


def log_density(z: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """log N(z; mean, variance), summed over the dimensions: `[..., l]` (broadcast) → `[...]`."""
    squares = (z - mean).square() * (-log_variance).exp()
    return -0.5 * (squares + log_variance + math.log(2 * math.pi)).sum(-1)


def prior_log_density(z: Tensor) -> Tensor:
    """log N(z; 0, 1), summed over the dimensions: `[..., l]` → `[...]`."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)


def free_bits(kl: Tensor, least: float) -> Tensor:
    """The KL term of a batch, with `least` nats of each dimension for free.

    Kingma et al. 2016 ("Improved Variational Inference with Inverse Autoregressive Flow",
    equation 15): a dimension whose mean over the batch is below `least` counts as `least`, so that
    nothing is gained by closing it.

    :param kl: `[b, l]` nats.
    :return: a scalar, nats per row.
    """
    return kl.mean(0).clamp_min(least).sum()
