"""The backend of word-level tokenizers: the words of a segmented corpus, by their frequency.

A text is cut into the most probable words under their frequencies in the corpus (Viterbi; Kudo
2018, "Subword Regularization", section 3.1, with whole words for pieces), so it need not be
segmented itself: Chinese without spaces is cut as jieba does without its model for new words. What
no word covers is written as characters, or else bytes. Laid end to end, the tokens are the text.
"""

import math
from collections import Counter
from collections.abc import Iterable

from tokenizers import Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as Backend

from textgym.errors import InputError
from textgym.text_metrics.words import is_unspaced
from textgym.tokenizer_backends import FALLBACK, SPECIALS, with_start

UNKNOWN = "<|unk|>"
_ASCII = tuple(map(chr, (9, 10, *range(32, 127))))  # so that no text is taken for "<0x41>"
_NEVER = -1e4  # log-probability of what no text is to match: bytes, special tokens
_WORDS = Regex(r" ?\S+|\s+(?!\S)|\s+")  # a space belongs to the word behind it


def word_backend(texts: Iterable[str], *, vocab_size: int, unk: bool) -> Backend:
    """The commonest words and characters of segmented texts.

    :param texts: words with white space between, streamed. A word of a script that is written with
        spaces is a token with the space before it, others stand alone.
    :param vocab_size: tokens in all: special ones, 256 bytes (or one unknown), ASCII, words.
    :param unk: whether characters outside of the vocabulary are one unknown token, not bytes.
    :raises InputError: if `vocab_size` leaves no room for a word, or there is none.
    """
    fixed = [*SPECIALS, *([UNKNOWN] if unk else FALLBACK)]
    least = len(fixed) + len(_ASCII) + 1
    if vocab_size < least:
        raise InputError(
            f"vocab_size must be at least {least} (special tokens, {'' if unk else '256 bytes, '}"
            f"ASCII and a word), got {vocab_size}"
        )
    words, characters = _counted(texts)
    if not words:
        raise InputError("a word tokenizer needs texts with at least one word")
    ranked = characters + Counter({word: n for word, n in words.items() if len(word) > 1})
    for piece in (*fixed, *_ASCII):
        ranked.pop(piece, None)
    by_count = sorted(ranked, key=lambda piece: (-ranked[piece], piece))
    pieces = [*_ASCII, *by_count[: vocab_size - len(fixed) - len(_ASCII)]]
    total = sum(words.values())
    scores = [(piece, math.log(max(words[piece], 0.5) / total)) for piece in pieces]
    vocabulary = [(piece, _NEVER) for piece in fixed] + scores
    unk_id = len(SPECIALS) if unk else 0  # with all bytes there it is never written
    backend = Backend(models.Unigram(vocabulary, unk_id=unk_id, byte_fallback=not unk))
    backend.pre_tokenizer = pre_tokenizers.Split(_WORDS, behavior="isolated")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return with_start(backend)


def _counted(texts: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """How often each word stands in the texts, as it is written there, and each character."""
    words: Counter[str] = Counter()
    characters: Counter[str] = Counter()
    for text in texts:
        characters.update(text)
        for line in text.splitlines():
            for place, word in enumerate(line.split()):
                is_spaced = place > 0 and word[0].isalnum() and not is_unspaced(word[0])
                words[f" {word}" if is_spaced else word] += 1
    return words, characters
