"""A decoder of latents that a test can work out: z rounded is a letter, as often as it says."""

import numpy as np
from textgym_testing import letter_tokenizer

from textgym.latent_decoders import check_latents


class LetterDecoder:
    """Two latents: which of the letters a, b, c, and how many of it beyond one.

    It looks at the prompt too: one that ends in "c" gets its letters in upper half (d).
    """

    latent_size, observation_size = 2, 3

    def __init__(self):
        self.tokenizer = letter_tokenizer()
        self.calls = []  # rows of each call of the decoder

    def encode_prompts(self, prompts):
        return np.array([[p.count(c) for c in "abc"] for p in prompts], np.float32).reshape(-1, 3)

    def decode_latents(self, latents, prompts=None, *, rng=None, max_new_tokens):
        array = check_latents(latents, 2)
        self.calls.append(len(array))
        written = []
        for z, prompt in zip(array, prompts, strict=True):
            letter = "abc"[int(np.clip(np.round(z[0]) + 1, 0, 2))]
            count = 1 + int(np.clip(np.round(z[1]) + 1, 0, 3))
            if rng is not None:
                count += int(rng.integers(3))
            text = ("d" if prompt.endswith("c") else letter) * count
            written.append(self.tokenizer.encode_continuation(prompt, text)[:max_new_tokens])
        return written
