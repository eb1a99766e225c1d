"""A causal language model of transformers', from a directory, as a reader of texts."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from textgym.errors import InputError
from textgym.paths import expand
from textgym.transformers_files import read_model, read_tokenizer

BATCH = 16  # texts that are read at once


class TransformersReader:
    """Bits of texts under any causal model that transformers opens; frozen, in float32.

    Only the directory is read, no hub is asked and no code of the model's own is run.

    :param directory: with `config.json`, safetensors and a fast tokenizer.
    :param device: where it reads.
    :param name: what its figures are filed under; default: the directory's name.
    :raises InputError: without transformers, or for a directory that it cannot open.
    """

    def __init__(
        self, directory: str | Path, *, device: str = "cpu", name: str | None = None
    ) -> None:
        self.name = name or Path(directory).name
        self._model, self._tokenizer = open_pretrained(
            directory, "AutoModelForCausalLM", what="a language model of transformers"
        )
        self._model.to(device)
        start = self._tokenizer.bos_token_id
        self._start = self._tokenizer.eos_token_id if start is None else start
        self._context = getattr(self._model.config, "max_position_embeddings", None) or 10**9

    @torch.no_grad()
    def bits(self, prompts: Sequence[str], completions: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], bits of each whole completion after its prompt; 0 for an empty one.

        A token that begins in the prompt and ends in the completion counts as the completion's.

        :raises InputError: for a text that is longer than the model's context.
        """
        pairs = zip(prompts, completions, strict=True)
        rows = [self._encoded(prompt, completion) for prompt, completion in pairs]
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
        result = np.zeros(len(rows))
        for first in range(0, len(order), BATCH):
            places = order[first : first + BATCH]
            result[places] = self._bits([rows[place] for place in places])
        return result

    def _encoded(self, prompt: str, completion: str) -> tuple[list[int], int]:
        """The token ids of both texts after a start, and the place of the completion's first."""
        encoded = self._tokenizer(
            prompt + completion, add_special_tokens=False, return_offsets_mapping=True
        )
        ids, ends = encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]
        first = next((place for place, end in enumerate(ends) if end > len(prompt)), len(ids))
        if self._start is not None:
            ids, first = [self._start, *ids], first + 1
        if len(ids) > self._context:
            raise InputError(
                f"{self.name}: prompt {prompt!r:.50} and its completion are {len(ids)} tokens, but "
                f"the reader's context is {self._context}: take a reader with a longer one"
            )
        return ids, max(1, first)

    def _bits(self, rows: Sequence[tuple[list[int], int]]) -> list[float]:
        width = max(len(ids) for ids, _ in rows)
        if width < 2:
            return [0.0] * len(rows)
        device = self._model.device
        tokens = torch.zeros(len(rows), width, dtype=torch.int64)
        mask, counts = torch.zeros_like(tokens), torch.zeros(len(rows), width - 1)
        for row, (ids, first) in enumerate(rows):
            tokens[row, : len(ids)] = torch.tensor(ids)
            mask[row, : len(ids)] = 1
            counts[row, first - 1 : len(ids) - 1] = 1.0
        logits = self._model(tokens.to(device), attention_mask=mask.to(device)).logits[:, :-1]
        targets = tokens[:, 1:].to(device)
        nats = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        sums = (nats.view(len(rows), -1).cpu().double() * counts).sum(-1)
        return [float(value) for value in sums / math.log(2)]


def open_pretrained(directory: str | Path, auto: str, *, what: str) -> tuple[Any, Any]:
    """A model and its tokenizer from a directory, in evaluation mode and float32.

    :param auto: the class of transformers that opens it, such as "AutoModel".
    :param what: is opened, for errors.
    :raises InputError: without transformers, or for a directory that it cannot open.
    """
    path = expand(directory)
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path}: expected the directory of {what}, with config.json, weights and tokenizer"
        )
    tokenizer = read_tokenizer(path, what=what, use_fast=True)
    model = read_model(auto, path, what=what, dtype=torch.float32)
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(f"{path}: {what} needs a fast tokenizer (tokenizer.json): save it as one")
    return model.eval().requires_grad_(False), tokenizer
