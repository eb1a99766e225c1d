"""Readers: bits per character of texts under a model that never trained here.

A judge says whether a text pleases; a reader says how surprising it is to somebody who knows the
language and nothing of the policy. Lower is more fluent, up to a point: the commonest phrases are
the least surprising, so read it beside distinct-2. A reader is any language model (a directory such
as SmolLM2's), or `"reviews"`: word and letter n-grams of the bundled reviews that no language model
of ours has seen.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from textgym.envs.tasks.movie_reviews import load_critic_snippets, review_texts
from textgym.errors import InputError
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.models_by_name import open_policy
from textgym.policies.pretraining.documents import Document, collate
from textgym.reward_models.learned.ngram_reader import NgramReader

REVIEWS = "reviews"


class Reader(Protocol):
    """What a reader can do."""

    @property
    def name(self) -> str:
        """What its figures are filed under."""

    def bits(self, prompts: Sequence[str], completions: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], bits of each whole completion after its prompt; 0 for an empty one."""


@lru_cache(maxsize=1)
def review_reader() -> NgramReader:
    """The n-gram reader of the held-out reviews, fitted when it is first asked for.

    From the movies of the splits validation and test: their rated reviews, and further critics'
    snippets. No language model here is trained on them. It knows little more than which words there
    are and which stand side by side: a sentence of common words pleases it whether it makes sense
    or not.
    """
    texts = [*review_texts("validation"), *review_texts("test")]
    for split in ("validation", "test"):
        texts += [snippet.text for snippet in load_critic_snippets(split)]
    return NgramReader(texts)


class ModelReader:
    """A causal language model as a reader.

    :param lm: any, with its own tokenizer; it is not changed.
    :param name: what its figures are filed under.
    :param batch_size: texts that are read at once.
    """

    def __init__(
        self, lm: LanguageModel, *, name: str = "model_reader", batch_size: int = 16
    ) -> None:
        self.lm, self.name, self.batch_size = lm, name, batch_size

    @torch.no_grad()
    def bits(self, prompts: Sequence[str], completions: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], bits of each completion's tokens after its prompt; 0 for an empty one.

        :raises InputError: for a text that is longer than the model's context.
        """
        tokenizer = self.lm.tokenizer
        starts = tokenizer.encode_batch(list(prompts), add_special_tokens=True)
        ends = tokenizer.encode_continuations(list(prompts), list(completions))
        documents = {}
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            start = start or [tokenizer.eos_token_id]  # what stands before a text without a prompt
            self._check_length(prompts[place], len(start) + len(end))
            if end:
                documents[place] = Document([*start, *end], len(start))
        order = sorted(documents, key=lambda place: -len(documents[place].tokens))
        result = np.zeros(len(completions))
        for first in range(0, len(order), self.batch_size):
            places = order[first : first + self.batch_size]
            part = [documents[place] for place in places]
            sizes = [len(document.tokens) - document.first_target for document in part]
            nats = np.split(self._nats(part), np.cumsum(sizes)[:-1])
            result[places] = [piece.sum() / math.log(2) for piece in nats]
        return result

    def _nats(self, documents: Sequence[Document]) -> npt.NDArray[np.float64]:
        """float64 [M], -log p of every completion token, one document after the other."""
        batch = collate(documents)
        device = self.lm.device
        hidden = self.lm.packed(batch.tokens.to(device), batch.lengths.to(device))
        logits = self.lm.lm_head(hidden[batch.source.to(device)]).float()
        losses = cross_entropy(logits, batch.targets.to(device), reduction="none")
        return losses.double().cpu().numpy()

    def _check_length(self, prompt: str, length: int) -> None:
        context = self.lm.config.max_position_embeddings
        if length > context:
            raise InputError(
                f"{self.name}: prompt {prompt!r:.50} and its completion are {length} tokens, but "
                f"the reader's context is {context}: take a reader with a longer one"
            )


def resolve_reader(reader: "Reader | LanguageModel | str | Path") -> Reader:
    """A reader from what the front door takes.

    :param reader: `"reviews"`, the directory of a language model, one that is open, or a reader.
    :raises InputError: if it is none of them.
    """
    if isinstance(reader, LanguageModel):
        return ModelReader(reader)
    if isinstance(reader, str | Path):
        if str(reader) == REVIEWS:
            return review_reader()
        return ModelReader(open_policy(reader), name=Path(reader).name)
    if not callable(getattr(reader, "bits", None)):
        raise InputError(
            f"reader must be 'reviews', a language model or its directory, got {reader!r:.60}"
        )
    return reader
