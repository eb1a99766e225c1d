"""How good a text variational autoencoder is, and whether its latents are in use.

Legend: `n` texts, `l` latent size, `k` draws of z.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from textgym.policies.pretraining.documents import Document
from textgym.policies.pretraining.objective import heldout_batches
from textgym.policies.vae.documents import LatentBatch, collate_latent
from textgym.policies.vae.gaussian import draw_latents, kl_to_prior, log_density, prior_log_density
from textgym.policies.vae.text_vae import TextVAE

ACTIVE = 0.01  # of Burda et al. 2016
_TEXTS_COMPARED = 2048


@dataclass(frozen=True)
class BoundParts:
    """The evidence lower bound of texts, from one draw of z each, taken apart.

    :param reconstruction: `[n]`, -log p(text | z) in nats.
    :param kl: `[n, l]` nats.
    :param mean: `[n, l]`, of the posterior.
    :param log_variance: `[n, l]`, of the posterior.
    :param tokens: `[n]` int64, learned ones.
    """

    reconstruction: Tensor
    kl: Tensor
    mean: Tensor
    log_variance: Tensor
    tokens: Tensor

    @property
    def loss_per_token(self) -> float:
        """The negative bound in nats per token."""
        return float((self.reconstruction.sum() + self.kl.sum()) / self.tokens.sum().clamp_min(1))

    def figures(self, generator: torch.Generator) -> dict[str, float]:
        """Means in nats per text, and whether z is in use.

        :param generator: of the draws for the mutual information.
        """
        reconstruction, kl = float(self.reconstruction.mean()), float(self.kl.sum(-1).mean())
        return {
            "bound": -(reconstruction + kl),
            "reconstruction": reconstruction,
            "kl": kl,
            "active_units": float(active_units(self.mean)),
            "mutual_information": mutual_information(self.mean, self.log_variance, generator),
        }


@torch.no_grad()
def bound_parts(
    vae: TextVAE,
    documents: Sequence[Document],
    generator: torch.Generator,
    *,
    batch_size: int = 64,
) -> BoundParts:
    """The bound of `LatentDocument`s without dropout, the shortest text first."""
    was_training = vae.training
    vae.eval()
    found: list[tuple[Tensor, ...]] = []
    for batch in heldout_batches(documents, batch_size, collate_latent):
        assert isinstance(batch, LatentBatch)
        batch = batch.to(vae.device)
        mean, log_variance = vae.posterior(batch.read_tokens, batch.read_lengths)
        z = draw_latents(mean, log_variance, generator)
        reconstruction = -log_likelihood(vae, batch, z)
        kl = kl_to_prior(mean, log_variance)
        tokens = batch.rows.bincount(minlength=len(mean))
        found.append((reconstruction, kl, mean, log_variance, tokens))
    vae.train(was_training)
    return BoundParts(*(torch.cat(part).cpu() for part in zip(*found, strict=True)))


def log_likelihood(vae: TextVAE, batch: LatentBatch, z: Tensor) -> Tensor:
    """log p(text | z) of each text of a batch, in nats: `[B]` from `z [B, l]`."""
    hidden = vae.writer.packed(batch.tokens, batch.lengths, z, batch.source)
    losses = cross_entropy(vae.lm_head(hidden).float(), batch.targets, reduction="none")
    return -losses.new_zeros(len(batch.lengths)).index_add(0, batch.rows, losses)


@torch.no_grad()
def importance_weighted(
    vae: TextVAE, documents: Sequence[Document], generator: torch.Generator, *, k: int = 100
) -> Tensor:
    """Lower bounds of log p(text) in nats, `[n]`, which rise to it with k.

    log 1/k Σᵢ p(text | zᵢ) p(zᵢ) / q(zᵢ | text), zᵢ from q (Burda et al. 2016, "Importance Weighted
    Autoencoders", equation 8); with k = 1 an estimate of the evidence lower bound.
    """
    was_training = vae.training
    vae.eval()
    found = []
    for document in documents:
        batch = collate_latent([document]).to(vae.device)
        mean, log_variance = vae.posterior(batch.read_tokens, batch.read_lengths)
        mean, log_variance = mean.expand(k, -1), log_variance.expand(k, -1)
        z = draw_latents(mean, log_variance, generator)
        copies = collate_latent([document] * k).to(vae.device)
        weight = log_likelihood(vae, copies, z) + prior_log_density(z)
        weight = weight - log_density(z, mean, log_variance)
        found.append(weight.double().logsumexp(0) - math.log(k))
    vae.train(was_training)
    return torch.stack(found).float().cpu() if found else torch.zeros(0)


def importance_weighted_perplexity(
    vae: TextVAE, documents: Sequence[Document], generator: torch.Generator, *, k: int = 100
) -> float:
    """exp of minus the mean of `importance_weighted` per learned token: an upper bound."""
    tokens = sum(len(document.tokens) - document.first_target for document in documents)
    total = float(importance_weighted(vae, documents, generator, k=k).sum())
    return math.exp(min(-total / max(tokens, 1), 700.0))


def active_units(mean: Tensor) -> int:
    """Dimensions whose posterior mean varies over texts by more than 0.01 (Burda et al. 2016).

    :param mean: `[n, l]`.
    """
    return int((mean.var(0, correction=0) > ACTIVE).sum()) if len(mean) else 0


def mutual_information(mean: Tensor, log_variance: Tensor, generator: torch.Generator) -> float:
    """Nats that z tells of which text it came from, at most log n.

    Hoffman and Johnson 2016 ("ELBO surgery"): the mean of log q(z | text) - log q(z), where q(z) is
    the mixture of the posteriors of all n texts, by one draw of z for each. Of more than 2,048
    texts the first.

    :param mean: `[n, l]`; `log_variance` of the same shape.
    """
    mean, log_variance = mean[:_TEXTS_COMPARED], log_variance[:_TEXTS_COMPARED]
    if not len(mean):
        return 0.0
    z = draw_latents(mean, log_variance, generator)
    own = log_density(z, mean, log_variance)
    mixture = torch.cat(
        [
            log_density(part[:, None], mean, log_variance).logsumexp(-1)
            for part in torch.split(z, 64)  # [64, n, l] at a time
        ]
    )
    return float((own - mixture).mean() + math.log(len(mean)))
