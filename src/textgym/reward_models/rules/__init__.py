"""Reward models that a program can say: length, patterns, words, sentiment.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.reward_models.rules.lexicon import Lexicon
    from textgym.reward_models.rules.rules import Keyword, Length, Regex, Repetition

__all__ = [
    "Keyword",
    "Length",
    "Lexicon",
    "Regex",
    "Repetition",
]

_MODULES = {
    "Keyword": "rules",
    "Length": "rules",
    "Lexicon": "lexicon",
    "Regex": "rules",
    "Repetition": "rules",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
