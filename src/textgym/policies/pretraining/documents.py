"""From texts to training batches: tokenized documents, shuffled and bucketed, as a stream."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.packing import pack_sequences
from textgym.tokenizer import Tokenizer

_T = TypeVar("_T")


@dataclass(frozen=True)
class Document:
    """Token ids, and the position of the first one that is learned (those before are context)."""

    tokens: list[int]
    first_target: int


def text_documents(
    texts: Iterable[str],
    tokenizer: Tokenizer,
    *,
    context: int,
    chunk: int = 1024,
    counts: Counter[str] | None = None,
) -> Iterator[Document]:
    """Each text with its start and stop token; one longer than `context` is cut into pieces.

    :param texts: streamed, `chunk` at a time.
    :param context: tokens of a piece at most.
    :param counts: its `"texts"` and `"cut"` grow with the texts that were read, and cut.
    """
    if context < 2:
        raise InputError(f"a context of at least 2 tokens is needed, got {context}")
    for part in _chunks(texts, chunk):
        for tokens in tokenizer.encode_batch(part, add_special_tokens=True):
            tokens = [*tokens, tokenizer.eos_token_id]
            if counts is not None:
                counts.update(texts=1, cut=int(len(tokens) > context))
            # Pieces overlap by one token, so that every token but the first is learned once.
            for start in range(0, max(len(tokens) - 1, 1), context - 1):
                piece = tokens[start : start + context]
                if len(piece) > 1:
                    yield Document(piece, 1)


def pair_documents(
    pairs: Iterable[tuple[str, str]], tokenizer: Tokenizer, *, context: int, chunk: int = 1024
) -> Iterator[Document]:
    """Prompt-completion pairs; only the completion and its stop token are learned.

    :raises InputError: for a pair that does not fit the context, naming its prompt.
    """
    for part in _chunks(pairs, chunk):
        prompts = tokenizer.encode_batch([p for p, _ in part], add_special_tokens=True)
        completions = tokenizer.encode_continuations([p for p, _ in part], [c for _, c in part])
        for (text, _), prompt, completion in zip(part, prompts, completions, strict=True):
            if not text or not prompt:
                raise InputError("an empty prompt in the fine-tuning data: give it at least a word")
            tokens = [*prompt, *completion, tokenizer.eos_token_id]
            if len(tokens) > context:
                raise InputError(
                    f"prompt {text!r:.50} and its completion are {len(tokens)} tokens, but the "
                    f"model's context is {context}: shorten them or drop the pair"
                )
            yield Document(tokens, len(prompt))


@dataclass(frozen=True)
class Batch:
    """Documents laid end to end.

    :param tokens: `[N]` int64.
    :param lengths: `[B]` int64.
    :param source: `[M]` int64, positions in `tokens` whose next token is learned.
    """

    tokens: Tensor
    lengths: Tensor
    source: Tensor

    @property
    def targets(self) -> Tensor:
        """`[M]` int64, the tokens to predict."""
        return self.tokens[self.source + 1]

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        if self.tokens.device == device:
            return self
        return replace(self, **{name: part.to(device) for name, part in vars(self).items()})


def collate(documents: Sequence[Document]) -> Batch:
    """A batch of documents."""
    tokens, lengths = pack_sequences([document.tokens for document in documents])
    starts = lengths.cumsum(0) - lengths
    source = [
        torch.arange(document.first_target - 1, len(document.tokens) - 1) + start
        for document, start in zip(documents, starts.tolist(), strict=True)
    ]
    return Batch(tokens, lengths, torch.cat(source))


def batches(
    documents: Iterable[Document],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    buffer: int = 8192,
    collate: Callable[[Sequence[Document]], Batch] = collate,
) -> Iterator[Batch]:
    """One epoch of shuffled batches of like lengths; `buffer` documents are in memory at a time.

    The order depends on `seed` and `epoch` alone.
    """
    rng = np.random.default_rng([seed, epoch])
    for part in _chunks(documents, buffer):
        # Sorting with noise groups like lengths without always pairing the same documents.
        lengths = np.array([len(document.tokens) for document in part], dtype=np.float64)
        order = np.argsort(lengths * rng.uniform(0.9, 1.1, len(part)), kind="stable")
        groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        for i in rng.permutation(len(groups)):
            longest_first = sorted(groups[i], key=lambda j: -len(part[j].tokens))
            yield collate([part[j] for j in longest_first])  # the attention then pads little


def _chunks(items: Iterable[_T], size: int) -> Iterator[list[_T]]:
    part: list[_T] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part
