"""The evidence lower bound as an objective of the training loop.

Kingma and Welling 2014, equation 3, with what keeps z in use: a weight on the KL term that grows,
free bits, word dropout (Bowman et al. 2016). Legend: `B` texts, `l` latent size, `N` tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from textgym.checks import check_numbers
from textgym.policies.pretraining.documents import Batch, Document
from textgym.policies.pretraining.objective import Objective
from textgym.policies.vae.checkpoint import load_training, save_vae
from textgym.policies.vae.documents import LatentBatch, collate_latent
from textgym.policies.vae.figures import bound_parts
from textgym.policies.vae.gaussian import (
    draw_latents,
    free_bits,
    kl_to_prior,
    squared_covariances,
)
from textgym.policies.vae.schedules import kl_weight
from textgym.policies.vae.text_vae import TextVAE


@dataclass(frozen=True)
class AgainstCollapse:
    """What keeps the decoder from doing without z.

    :param kl_schedule: of the KL term's weight: `"linear"`, `"cyclical"` or `"constant"`.
    :param kl_warmup: share of the training, or of a cycle, over which the weight grows to 1.
    :param kl_cycles: of the cyclical schedule.
    :param free_bits: nats of each dimension that cost nothing (the name is the literature's).
    :param decorrelation: nats a text for each unit of `squared_covariances`, so that the dimensions
        do not all tell the same.
    :param word_dropout: share of the tokens that the decoder does not see while training, so that
        it asks z.
    """

    kl_schedule: str = "linear"
    kl_warmup: float = 0.3
    kl_cycles: int = 4
    free_bits: float = 0.2
    decorrelation: float = 1.0
    word_dropout: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        self.kl_weight(0.0)

    def kl_weight(self, progress: float) -> float:
        """The weight of the KL term, 0 to 1, at a share of the training."""
        return kl_weight(
            progress, schedule=self.kl_schedule, warmup=self.kl_warmup, cycles=self.kl_cycles
        )


# The plain bound, under which most text autoencoders collapse.
PLAIN = AgainstCollapse(kl_schedule="constant", free_bits=0.0, decorrelation=0.0)


class EvidenceLowerBound(Objective):
    """Reconstruction plus weighted KL term, of one draw of z for each text."""

    def __init__(self, vae: TextVAE, measures: AgainstCollapse | None = None) -> None:
        self.model = self.vae = vae
        self.measures = measures or AgainstCollapse()

    def set_dropout(self, share: float) -> None:
        """See `Objective`."""
        self.vae.set_dropout(share)

    def collate(self, documents: Sequence[Document]) -> Batch:
        """See `Objective`."""
        return collate_latent(documents)

    def loss(self, batch: Batch, progress: float, generator: torch.Generator) -> Tensor:
        """See `Objective`."""
        assert isinstance(batch, LatentBatch)
        mean, log_variance = self.vae.posterior(batch.read_tokens, batch.read_lengths)
        z = draw_latents(mean, log_variance, generator)
        tokens = self._without_words(batch, generator)
        hidden = self.vae.writer.packed(tokens, batch.lengths, z, batch.source)
        logits = self.vae.lm_head(hidden).float()
        reconstruction = cross_entropy(logits, batch.targets, reduction="sum")
        kl = free_bits(kl_to_prior(mean, log_variance), self.measures.free_bits)
        cost = self.measures.kl_weight(progress) * kl
        if self.measures.decorrelation:
            cost = cost + self.measures.decorrelation * squared_covariances(mean)
        return reconstruction + len(batch.lengths) * cost

    def _without_words(self, batch: LatentBatch, generator: torch.Generator) -> Tensor:
        """`[N]`: what the decoder reads; padding stands for a word that is left out.

        What comes before the first learned token (start, prompt) is always there.
        """
        share = self.measures.word_dropout
        if share == 0:
            return batch.tokens
        is_left_out = torch.rand(len(batch.tokens), generator=generator) < share
        is_written = torch.zeros(len(batch.tokens), dtype=torch.bool, device=batch.tokens.device)
        is_written[batch.source + 1] = True
        is_left_out = is_left_out.to(batch.tokens.device) & is_written
        return batch.tokens.masked_fill(is_left_out, self.vae.tokenizer.pad_token_id)

    def heldout(self, documents: Sequence[Document], progress: float) -> dict[str, float]:
        """The plain bound and what it is made of, with the same draws at every evaluation."""
        parts = bound_parts(self.vae, documents, torch.Generator().manual_seed(0))
        return {
            "heldout_loss": parts.loss_per_token,
            **parts.figures(torch.Generator().manual_seed(1)),
            "kl_weight": self.measures.kl_weight(progress),
        }

    def save(
        self, directory: Path, trainer_state: dict[str, Any] | None, keep_old_as: str | None
    ) -> None:
        """See `Objective`."""
        save_vae(self.vae, directory, trainer_state=trainer_state, keep_old_as=keep_old_as)

    def load(self, directory: Path) -> Any:
        """See `Objective`."""
        return load_training(directory, self.vae)

    def weights(self, directory: Path) -> dict[str, Tensor]:
        """See `Objective`."""
        return TextVAE.from_pretrained(directory).state_dict()
