"""Held-out prompts, each with draws of its own.

What a policy writes on a prompt is to change with the policy alone. So the random numbers of a text
come from the seed and its prompt: they are the same at every evaluation and in every run of that
seed, whatever the other prompts are and however many rows play (common random numbers, which make
differences between policies sharper: Glasserman and Yao 1992, "Some Guidelines and Guarantees for
Common Random Numbers").
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.envs.texts.prompts import Prompt, PromptSource
from textgym.errors import InputError
from textgym.states import comes_back_from_json
from textgym.storage import json_text


class HeldOutPrompts:
    """A source that gives each prompt once, in order, and its own draws to the row that starts.

    :param prompts: as a `PromptSource` gives them.
    :param seed: of the draws.
    :param count: random numbers of each prompt: the tokens of a completion at most.

    `numbers` are float32 `[p, count]` in [0, 1): what the tokens are drawn with. What a reply
    function draws from its row's generator is the prompt's own too.
    """

    def __init__(self, prompts: Sequence[Prompt], seed: int, count: int) -> None:
        self.prompts, self.next = list(prompts), 0
        self.numbers = np.zeros((len(self.prompts), count), dtype=np.float32)
        self._states: list[Any] = []
        for place, prompt in enumerate(self.prompts):
            tokens, replies = _seed_sequence(prompt, seed).spawn(2)
            self.numbers[place] = np.random.default_rng(tokens).random(count, dtype=np.float32)
            self._states.append(np.random.PCG64(replies).state)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt.ids) for prompt in self.prompts)

    def begin(self) -> None:
        """From here on, the first prompt again."""
        self.next = 0

    def __call__(self, np_random: np.random.Generator) -> Prompt:
        """The next prompt; after the last, the last one again and again."""
        place = min(self.next, len(self.prompts) - 1)
        self.next += 1
        np_random.bit_generator.state = self._states[place]
        return self.prompts[place]


def listed_prompts(source: PromptSource, *, most: int, label: str) -> list[Prompt]:
    """The prompts of a source, each once.

    :param most: prompts of a function, which is drawn from with a seed of its own.
    :param label: what they are called in an error.
    :raises InputError: for columns that JSON does not bring back: no record could hold them.
    """
    rng = np.random.default_rng(0)
    prompts = source.all() or [source.draw(rng) for _ in range(most)]
    for prompt in prompts:
        if not comes_back_from_json(prompt.columns):
            raise InputError(
                f"{label}: the columns of prompt {prompt.text!r:.50} ({prompt.columns!r:.50}) do "
                "not come back from JSON, so that no record holds them: write numbers and texts"
            )
    different = {json_text(prompt_row(prompt)): prompt for prompt in prompts}
    if len(source) and len(different) < len(prompts):
        warnings.warn(
            f"{label}: {len(prompts) - len(different)} of {len(prompts)} prompts stand there "
            "before; each is evaluated once",
            stacklevel=2,
        )
    return list(different.values())


def prompt_row(prompt: Prompt) -> dict[str, Any]:
    """A prompt as the record holds it: the key `prompt`, and its columns."""
    return {"prompt": prompt.text, **prompt.columns}


def _seed_sequence(prompt: Prompt, seed: int) -> np.random.SeedSequence:
    row: Mapping[str, Any] = prompt_row(prompt)
    text = json_text([seed, {name: row[name] for name in sorted(row)}])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.random.SeedSequence(int.from_bytes(digest))
