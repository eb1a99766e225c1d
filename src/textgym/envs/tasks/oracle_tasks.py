"""Tasks so small that every completion can be listed, and the best policy be computed exactly.

Toys to look at learning through a magnifying glass: see docs/oracle.md. Each function gives the
fields of one task, as `textgym.register` takes them.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, processors

from textgym.tokenizer import Tokenizer
from textgym.tokenizer_backends import BOS, EOS, PAD

ALPHABET = "abcdefgh"


def one_token() -> dict[str, Any]:
    """Write the letter that mirrors the prompt's in the alphabet: an episode is one action."""
    return {
        "prompts": ["b", "g"],
        "heldout_prompts": ["a", "c", "d", "e", "f", "h"],
        "reward": mirror,
        "tokenizer": letter_tokenizer(ALPHABET),
        "max_new_tokens": 1,
    }


def few_tokens() -> dict[str, Any]:
    """Up to three letters that climb the alphabet and end where the prompt stands."""
    return {
        "prompts": ["a", "c"],
        "heldout_prompts": ["b", "d"],
        "reward": climb,
        "tokenizer": letter_tokenizer("abcd"),
        "max_new_tokens": 3,
    }


def mirror(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """1 for the mirror image of the prompt's letter (a and h, b and g, ...), 1/7 less a letter off.

    Anything but one letter earns 0.
    """
    last = len(ALPHABET) - 1
    scores = []
    for prompt, text in zip(prompts, completions, strict=True):
        is_letter = len(text) == 1 and text in ALPHABET and prompt in ALPHABET
        off = abs(last - ALPHABET.index(prompt) - ALPHABET.index(text)) if is_letter else last
        scores.append(1.0 - off / last)
    return scores


def climb(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """1/4 for each letter that follows its neighbour in the alphabet, 1/2 for a prompt's end.

    The first letter's neighbour is the prompt. A sum over pairs, so that no letter has a worth of
    its own, and the two parts pull apart: who climbs only never comes home. With three letters at
    most 1 can be earned.
    """
    scores = []
    for prompt, text in zip(prompts, completions, strict=True):
        steps = sum(ord(after) - ord(before) == 1 for before, after in pairwise(prompt + text))
        scores.append(0.25 * steps + 0.5 * (text[-1:] == prompt))
    return scores


def letter_tokenizer(letters: str) -> Tokenizer:
    """One token a letter, and no other text: pad 0, start 1, stop 2, then the letters.

    A vocabulary that can be listed. Other characters are lost, which a prompt's check notices.
    """
    vocabulary = {token: i for i, token in enumerate((PAD, BOS, EOS, *letters))}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.Fuse()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return Tokenizer(backend, pad_token=PAD, eos_token=EOS, bos_token=BOS)
