"""Leaves: what is counted in texts, and how texts are cut into words.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.text_metrics.metrics import (
        commonest_bigram,
        commonest_bigram_share,
        distinct_n,
        duplicate_share,
        made_up_words,
        repetition,
        word_vocabulary,
    )
    from textgym.text_metrics.words import count_words, split_words

__all__ = [
    "commonest_bigram",
    "commonest_bigram_share",
    "count_words",
    "distinct_n",
    "duplicate_share",
    "made_up_words",
    "repetition",
    "split_words",
    "word_vocabulary",
]

_MODULES = {
    "commonest_bigram": "metrics",
    "commonest_bigram_share": "metrics",
    "count_words": "words",
    "distinct_n": "metrics",
    "duplicate_share": "metrics",
    "made_up_words": "metrics",
    "repetition": "metrics",
    "split_words": "words",
    "word_vocabulary": "metrics",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
