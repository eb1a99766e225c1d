"""Leaf: what writes a text from a point of a continuous space, as environments see it.

`textgym.policies.TextVAE` is one. NumPy in, NumPy and token ids out, so that nothing here needs
torch. Legend: `b` rows.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from textgym.errors import InputError
from textgym.tokenizer import Tokenizer


class LatentDecoder(Protocol):
    """A decoder of latents, whose prior is a standard normal distribution.

    It may have a `context`, an int: the most tokens that prompt and text may take together.
    """

    @property
    def latent_size(self) -> int:
        """Dimensions of z."""

    @property
    def observation_size(self) -> int:
        """Numbers that `encode_prompts` gives of each prompt."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary in which it writes."""

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """What it makes of prompts: float32 `[b, observation_size]`."""

    def decode_latents(
        self,
        latents: np.ndarray,
        prompts: Sequence[str] | None = None,
        *,
        rng: np.random.Generator | None = None,
        max_new_tokens: int,
    ) -> list[list[int]]:
        """The texts that latents stand for, as token ids, stop tokens left out.

        :param latents: float `[b, latent_size]`.
        :param prompts: which the texts go on from; None: they stand alone.
        :param rng: of what is drawn; None: the likeliest token each time.
        :raises InputError: for latents of another shape, or that are not finite.
        """


_FACE = ("latent_size", "observation_size", "tokenizer", "encode_prompts", "decode_latents")


def check_is_decoder(decoder: object) -> None:
    """Raises unless an object has what a decoder of latents has.

    :raises InputError: saying what it lacks.
    """
    lacking = [name for name in _FACE if not hasattr(decoder, name)]
    if lacking:
        raise InputError(
            "decoder must be the directory of a text VAE, or an object with "
            f"{', '.join(_FACE)}; {type(decoder).__name__} has no {lacking[0]}"
        )


def check_latents(latents: object, size: int, rows: int | None = None) -> np.ndarray:
    """Latents as a float32 array `[b, size]`.

    :param rows: how many there must be; None: any number.
    :raises InputError: for another shape, or for numbers that are not finite.
    """
    if np.iscomplexobj(latents):  # type: ignore[arg-type]
        raise InputError("latents must be real numbers, got complex ones")
    try:
        array = np.asarray(latents, dtype=np.float32)
    except (TypeError, ValueError):
        array = np.empty((0, 0, 0), np.float32)
    if array.ndim != 2 or array.shape[1] != size or rows not in (None, len(array)):
        wanted = f"[{'b' if rows is None else rows}, {size}]"
        found = getattr(latents, "shape", None) or array.shape
        raise InputError(f"latents must be numbers of shape {wanted}, got {tuple(found)}")
    if not np.isfinite(array).all():
        raise InputError("latents must be finite numbers, got NaN or infinity among them")
    return array
