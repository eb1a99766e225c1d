"""What a completion does not copy: the share of its n-grams that a corpus has not."""

from collections.abc import Iterable, Sequence
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.rules.columns import check_texts
from textgym.text_metrics.words import split_words, word_ngrams


class Novelty:
    """1 - (n-grams that occur in the corpus) / (n-grams), in [0, 1].

    An n-gram is n words in a row, case and punctuation aside; a Chinese character is a word. Every
    occurrence counts. A text of fewer than n words has shown nothing new and gets 0.

    :param texts: the corpus. It is read once; some 60 bytes are kept of each different n-gram.
    :param n: words of an n-gram.
    :raises InputError: for n below 1, or a corpus without an n-gram.
    """

    name = "novelty"

    def __init__(self, texts: Iterable[str], *, n: int = 4) -> None:
        if n < 1:
            raise InputError(f"n must be 1 or above, got {n!r}")
        self.n = n
        # Hashes: two n-grams of 64 bits meet by chance once in 10 billion pairs of corpora.
        self._known = {hash(ngram) for text in texts for ngram in word_ngrams(split_words(text), n)}
        if not self._known:
            raise InputError(f"novelty: no text of the corpus has {n} words: pass a corpus, or n=1")

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [0, 1] per completion."""
        check_texts(self.name, prompts, completions)
        return [self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        ngrams = word_ngrams(split_words(text), self.n)
        copied = sum(hash(ngram) in self._known for ngram in ngrams)
        return 1.0 - copied / len(ngrams) if ngrams else 0.0
