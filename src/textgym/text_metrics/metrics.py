"""What a set of texts looks like: pure functions for logging and evaluation, no rewards.

Diversity, repetition, duplicates and made-up words: the figures that fall when a policy games its
reward model, while every judge's score still rises.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from textgym.errors import InputError
from textgym.text_metrics.words import FUNCTION_WORDS, split_words, word_ngrams


class CommonestBigram(NamedTuple):
    """The commonest bigram that holds a content word, and its occurrences per text."""

    bigram: str
    share: float


def distinct_n(texts: Iterable[str], n: int = 2) -> float:
    """Distinct n-grams over all n-grams of all texts together, in (0, 1]; 0 without any.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation
    Models", section 4. It falls as the set of texts grows: compare sets of one size.
    """
    total, seen = 0, set()
    for text in texts:
        ngrams = word_ngrams(split_words(text), n)
        total += len(ngrams)
        seen.update(ngrams)
    return len(seen) / total if total else 0.0


def repetition(text: str, n: int = 2) -> float:
    """Share of a text's n-grams that repeat an earlier one of the same text, in [0, 1)."""
    ngrams = word_ngrams(split_words(text), n)
    return 1.0 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def commonest_bigram(texts: Sequence[str]) -> CommonestBigram:
    """The bigram with a content word ("the best") that occurs most often, and how often per text.

    Its share can pass 1. It is the cheapest sign of collapse: people's movie reviews have .06
    ("the film"), "the best film of the best" 1.5 and more. Ties go to the first in the
    alphabet.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        counts.update(
            pair
            for pair in word_ngrams(split_words(text), 2)
            if not FUNCTION_WORDS.issuperset(pair)
        )
    if not counts:
        return CommonestBigram("", 0.0)
    pair, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    return CommonestBigram(" ".join(pair), count / len(texts))


def commonest_bigram_share(texts: Sequence[str]) -> float:
    """Occurrences per text of the commonest bigram with a content word; see `commonest_bigram`."""
    return commonest_bigram(texts).share


def word_vocabulary(texts: Iterable[str]) -> frozenset[str]:
    """All words of the texts, in lower case: what `made_up_words` compares with."""
    return frozenset(word for text in texts for word in split_words(text))


def made_up_words(texts: Iterable[str], vocabulary: Collection[str]) -> float:
    """Share of the texts' words that the vocabulary does not know, in [0, 1].

    :param vocabulary: known words in lower case, best a set. Numbers always count as known.
    """
    words = [word for text in texts for word in split_words(text) if not word.isdigit()]
    return sum(word not in vocabulary for word in words) / len(words) if words else 0.0


def duplicate_share(texts: Sequence[str]) -> float:
    """Share of texts that say the same words as an earlier one (case and punctuation aside)."""
    if not texts:
        return 0.0
    return 1.0 - len({tuple(split_words(text)) for text in texts}) / len(texts)


def pearson(first: Sequence[float], second: Sequence[float]) -> float:
    """Pearson's correlation of two equally long series, in [-1, 1]; 0 if one is constant.

    :raises InputError: if the lengths differ or there are fewer than two values.
    """
    if len(first) != len(second) or len(first) < 2:
        raise InputError(
            "a correlation needs two series of one length with at least 2 values, got "
            f"{len(first)} and {len(second)}"
        )
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
