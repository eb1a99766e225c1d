"""What a text variational autoencoder writes, to look at: from the prior, again, and in between."""

from collections.abc import Sequence
from typing import NamedTuple

import torch

from textgym.policies.vae.documents import LatentDocument
from textgym.policies.vae.text_vae import TextVAE


class Specimen(NamedTuple):
    """A text that was written.

    :param kind: `"prior"`, `"reconstruction"` or `"interpolation"`.
    :param given: what it was written from, in words.
    """

    kind: str
    given: str
    written: str


def specimens(
    vae: TextVAE, documents: Sequence[LatentDocument], *, max_new_tokens: int, count: int = 6
) -> list[Specimen]:
    """Draws from the prior, texts written again, and a walk between two of them.

    What is drawn, z and tokens, is drawn with one seed; the others are the likeliest tokens at the
    posterior means.

    :param documents: some that were not learned from; the first `count` of different texts count.
    """
    chosen = list({tuple(d.tokens): d for d in documents}.values())[:count]
    generator = torch.Generator().manual_seed(0)
    z = vae.prior(count, generator)
    draws = torch.Generator(vae.device).manual_seed(0)
    prompts = _prompts(vae, chosen) or None
    if vae.config.conditional and prompts is None:
        return []
    behind = prompts and [prompts[i % len(prompts)] for i in range(count)]
    texts = vae.decode(z, behind, max_new_tokens=max_new_tokens, temperature=1.0, generator=draws)
    found = [
        Specimen("prior", f"draw {i + 1}" + (f" after {behind[i]!r}" if behind else ""), text)
        for i, text in enumerate(texts)
    ]
    if not chosen:
        return found
    mean, _ = vae.read_rows([document.read for document in chosen])
    again = vae.decode(mean, prompts, max_new_tokens=max_new_tokens)
    read = vae.tokenizer.decode_batch([document.read for document in chosen])
    found += [
        Specimen("reconstruction", before, after) for before, after in zip(read, again, strict=True)
    ]
    if len(chosen) > 1:
        shares = [0.0, 0.25, 0.5, 0.75, 1.0]
        line = torch.stack([(1 - share) * mean[0] + share * mean[1] for share in shares])
        same = prompts and [prompts[0]] * len(shares)
        walk = vae.decode(line, same, max_new_tokens=max_new_tokens)
        found += [
            Specimen("interpolation", f"{share:.0%} from {read[0]!r} to {read[1]!r}", text)
            for share, text in zip(shares, walk, strict=True)
        ]
    return found


def _prompts(vae: TextVAE, documents: Sequence[LatentDocument]) -> list[str]:
    """The prompts of documents of a conditional autoencoder; else none."""
    if not vae.config.conditional:
        return []
    return vae.tokenizer.decode_batch([d.tokens[: d.first_target] for d in documents])
