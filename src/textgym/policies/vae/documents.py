"""What a text variational autoencoder learns from: what is read into z, and written from it.

Three kinds of examples for one model: a text is read and written again (the autoencoder), a
completion is read with its prompt and written behind it (conditional), or one text is read and
another written from z alone (the source document's example of apples and phones).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.packing import pack_sequences
from textgym.policies.pretraining.documents import Batch, Document, collate
from textgym.tokenizer import Tokenizer


@dataclass(frozen=True)
class LatentDocument(Document):
    """Token ids to write, and those to read.

    :param read: what the encoder reads.
    """

    read: list[int]


@dataclass(frozen=True)
class LatentBatch(Batch):
    """Documents to write laid end to end, and what is read for each.

    :param read_tokens: `[R]` int64.
    :param read_lengths: `[B]` int64.
    """

    read_tokens: Tensor
    read_lengths: Tensor

    @property
    def rows(self) -> Tensor:
        """`[M]` int64: the document that each learned token belongs to."""
        ends = self.lengths.cumsum(0)
        return torch.searchsorted(ends, self.source, right=True)


def collate_latent(documents: Sequence[Document]) -> LatentBatch:
    """A batch of `LatentDocument`s."""
    batch = collate(documents)
    read = [document.read for document in documents if isinstance(document, LatentDocument)]
    return LatentBatch(batch.tokens, batch.lengths, batch.source, *pack_sequences(read))


def start_row(tokenizer: Tokenizer) -> list[int]:
    """What stands in front of a text alone: a start token, or the stop token for want of one."""
    return list(tokenizer.start_ids) or [tokenizer.eos_token_id]


def text_rows(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> list[list[int]]:
    """Token ids of texts that stand alone, without start and stop.

    :raises InputError: for an empty text, or one that is too long.
    """
    start = len(start_row(tokenizer))
    rows = tokenizer.encode_batch(list(texts))
    for text, row in zip(texts, rows, strict=True):
        if not row:
            raise InputError("an empty text: an autoencoder needs at least a character to read")
        _check_length(start + len(row) + 1, f"the text {text!r:.50}", context)
    return rows


def autoencoding_documents(
    texts: Iterable[str], tokenizer: Tokenizer, *, context: int
) -> Iterator[LatentDocument]:
    """Each text is read, and written from z alone.

    :param context: tokens of a text at most, start and stop included.
    :raises InputError: for an empty text, or one that is too long, naming it.
    """
    start = start_row(tokenizer)
    for text in texts:
        (row,) = text_rows(tokenizer, [text], context)
        yield LatentDocument(
            [*start, *row, tokenizer.eos_token_id], len(start), reading(tokenizer, row)
        )


def conditional_documents(
    pairs: Iterable[tuple[str, str]], tokenizer: Tokenizer, *, context: int
) -> Iterator[LatentDocument]:
    """Prompt and completion are read; the completion is written from z behind the prompt.

    :raises InputError: for an empty prompt or completion, or a pair that is too long.
    """
    for prompt, completion in pairs:
        (x,) = prompt_rows(tokenizer, [prompt])
        y = tokenizer.encode_continuation(prompt, completion)
        if not y:
            raise InputError(f"an empty completion of the prompt {prompt!r:.50}")
        tokens = [*x, *y, tokenizer.eos_token_id]
        _check_length(len(tokens), f"prompt {prompt!r:.50} and its completion", context)
        yield LatentDocument(tokens, len(x), reading(tokenizer, y, x))


def translation_documents(
    pairs: Iterable[tuple[str, str]], tokenizer: Tokenizer, *, context: int
) -> Iterator[LatentDocument]:
    """The first text is read, and the second written from z alone.

    :raises InputError: for an empty text, or one that is too long, naming it.
    """
    start = start_row(tokenizer)
    for source, target in pairs:
        x, y = text_rows(tokenizer, [source, target], context)
        yield LatentDocument(
            [*start, *y, tokenizer.eos_token_id], len(start), reading(tokenizer, x)
        )


def reading(tokenizer: Tokenizer, text: list[int], prompt: list[int] | None = None) -> list[int]:
    """The row that the encoder reads for a text, behind its prompt if there is one."""
    return [*(prompt or []), *text, tokenizer.eos_token_id]


def prompt_rows(tokenizer: Tokenizer, prompts: Sequence[str]) -> list[list[int]]:
    """Token ids of prompts, as the decoder goes on from them.

    :raises InputError: for an empty one.
    """
    rows = tokenizer.encode_batch(list(prompts), add_special_tokens=True)
    for prompt, row in zip(prompts, rows, strict=True):
        if not prompt or not row:
            raise InputError("an empty prompt: give the model at least one character to continue")
    return rows


def _check_length(length: int, what: str, context: int) -> None:
    if length > context:
        raise InputError(
            f"{what} is {length} tokens with start and stop, but the context is {context}: raise "
            "context, or shorten it or leave it out"
        )
