"""The backends of our own tokenizers: bytes, characters, and trained byte-level BPE."""

from collections.abc import Iterable
from typing import Any

from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from textgym.errors import InputError

PAD, BOS, EOS = "<|pad|>", "<|bos|>", "<|eos|>"
SPECIALS = (PAD, BOS, EOS)
FALLBACK = tuple(f"<0x{byte:02X}>" for byte in range(256))


def byte_backend() -> Backend:
    """One token per UTF-8 byte, behind the 3 special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIALS, *alphabet))}
    return with_start(_byte_level(models.BPE(vocab=vocabulary, merges=[])))


def character_backend(texts: Iterable[str]) -> Backend:
    """One token per character that occurs in `texts`, and bytes for every other character.

    :raises InputError: for texts without a character.
    """
    characters = sorted({character for text in texts for character in text})
    if not characters:
        raise InputError("a character tokenizer needs texts with at least one character")
    tokens = dict.fromkeys((*SPECIALS, *FALLBACK, *characters))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return with_start(backend)


def bpe_backend(texts: Iterable[str], *, vocab_size: int) -> Backend:
    """Byte-level BPE, trained on texts that are streamed.

    :raises InputError: if `vocab_size` is below 259 or `texts` is empty.
    """
    if vocab_size < 259:
        raise InputError(
            f"vocab_size must be at least 259 (256 bytes and 3 special tokens), got {vocab_size}"
        )
    backend = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIALS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    count = 0

    def counted() -> Iterable[str]:
        nonlocal count
        for text in texts:
            count += bool(text)
            yield text

    backend.train_from_iterator(counted(), trainer)
    if not count:
        raise InputError("the corpus is empty: a BPE tokenizer needs at least one text")
    return with_start(backend)


def _byte_level(model: Any) -> Backend:
    backend = Backend(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def with_start(backend: Backend) -> Backend:
    """The special tokens, and the start token in front of every text."""
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, backend.token_to_id(BOS))]
    )
    return backend
