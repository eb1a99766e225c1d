"""The decoder of a text variational autoencoder with its latents given: a language model."""

from typing import TYPE_CHECKING, Any

from torch import Tensor

from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.packing import PackedSegments

if TYPE_CHECKING:
    from textgym.policies.vae.text_vae import TextVAE


class DecoderGivenLatents(LanguageModel):
    """p(text | z) for rows with one z each; generation, cache and sampling are the usual ones.

    The weights are the autoencoder's own, not a copy.

    :param latents: `[n, l]` float, of the rows in their order.
    """

    def __init__(self, vae: "TextVAE", latents: Tensor) -> None:
        super().__init__(vae.config, vae.tokenizer)
        self.writer, self.lm_head, self.latents = vae.writer, vae.lm_head, latents
        self.train(vae.training)

    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """See `Trunk`; one segment for each z."""
        return self.writer.packed(tokens, lengths, self.latents, kept)

    def new_cache(self, slots: int, capacity: int) -> Any:
        """See `Trunk`."""
        return self.writer.new_cache(slots, capacity)

    def step(
        self,
        cache: Any,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """See `Trunk`."""
        return self.writer.step(cache, tokens, positions, fresh, prefixes, self.latents)

    def fill(self, cache: Any, slots: Tensor, segments: PackedSegments) -> Tensor:
        """See `Trunk`."""
        return self.writer.fill(cache, slots, segments, self.latents)
