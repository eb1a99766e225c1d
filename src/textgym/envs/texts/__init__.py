"""Where texts come from: prompts, corpora, rows of files, preparation.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.envs.texts.conversations import Conversation, read_conversations
    from textgym.envs.texts.corpus import read_texts, shuffled, split_heldout
    from textgym.envs.texts.labelled_rows import (
        JudgedSteps,
        Pair,
        Preference,
        RatedCompletion,
        read_pairs,
        read_ratings,
        read_steps,
    )
    from textgym.envs.texts.preparation.pipeline import Cleaner, TextPipeline, default_rules
    from textgym.envs.texts.preparation.step import rule
    from textgym.envs.texts.prompts import PromptSource

__all__ = [
    "Cleaner",
    "Conversation",
    "JudgedSteps",
    "Pair",
    "Preference",
    "PromptSource",
    "RatedCompletion",
    "TextPipeline",
    "default_rules",
    "read_conversations",
    "read_pairs",
    "read_ratings",
    "read_steps",
    "read_texts",
    "rule",
    "shuffled",
    "split_heldout",
]

_MODULES = {
    "Cleaner": "preparation.pipeline",
    "Conversation": "conversations",
    "JudgedSteps": "labelled_rows",
    "Pair": "labelled_rows",
    "Preference": "labelled_rows",
    "PromptSource": "prompts",
    "RatedCompletion": "labelled_rows",
    "TextPipeline": "preparation.pipeline",
    "default_rules": "preparation.pipeline",
    "read_conversations": "conversations",
    "read_pairs": "labelled_rows",
    "read_ratings": "labelled_rows",
    "read_steps": "labelled_rows",
    "read_texts": "corpus",
    "rule": "preparation.step",
    "shuffled": "corpus",
    "split_heldout": "corpus",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
