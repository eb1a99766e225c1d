"""Reward models that a program can say: length, patterns, answers, overlap, sentiment, verse.

The names below are loaded when they are first used; importing them needs no extra, making one that
uses a library of an extra does.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.reward_models.rules.answers import ExactMatch, NumericAnswer
    from textgym.reward_models.rules.chinese_sentiment import ChineseSentiment
    from textgym.reward_models.rules.error_rates import CharacterErrorRate, WordErrorRate
    from textgym.reward_models.rules.fluency import Fluency
    from textgym.reward_models.rules.json_schema import JsonSchema
    from textgym.reward_models.rules.lexicon import Lexicon
    from textgym.reward_models.rules.novelty import Novelty
    from textgym.reward_models.rules.overlap import Bleu, Chrf, Rouge
    from textgym.reward_models.rules.quatrains import (
        Quatrain,
        QuatrainForm,
        QuatrainRhyme,
        QuatrainTones,
    )
    from textgym.reward_models.rules.readability import Readability
    from textgym.reward_models.rules.reference import ReferenceReward
    from textgym.reward_models.rules.rules import Keyword, Length, Regex, Repetition
    from textgym.reward_models.rules.similarity import SentenceEncoder, Similarity
    from textgym.reward_models.rules.toxicity import Toxicity
    from textgym.reward_models.rules.transformers_reader import TransformersReader
    from textgym.reward_models.rules.verse import Rhyme, Syllables

__all__ = [
    "Bleu",
    "CharacterErrorRate",
    "ChineseSentiment",
    "Chrf",
    "ExactMatch",
    "Fluency",
    "JsonSchema",
    "Keyword",
    "Length",
    "Lexicon",
    "Novelty",
    "NumericAnswer",
    "Quatrain",
    "QuatrainForm",
    "QuatrainRhyme",
    "QuatrainTones",
    "Readability",
    "ReferenceReward",
    "Regex",
    "Repetition",
    "Rhyme",
    "Rouge",
    "SentenceEncoder",
    "Similarity",
    "Syllables",
    "Toxicity",
    "TransformersReader",
    "WordErrorRate",
]

_MODULES = {
    "Bleu": "overlap",
    "CharacterErrorRate": "error_rates",
    "ChineseSentiment": "chinese_sentiment",
    "Chrf": "overlap",
    "ExactMatch": "answers",
    "Fluency": "fluency",
    "JsonSchema": "json_schema",
    "Keyword": "rules",
    "Length": "rules",
    "Lexicon": "lexicon",
    "Novelty": "novelty",
    "NumericAnswer": "answers",
    "Quatrain": "quatrains",
    "QuatrainForm": "quatrains",
    "QuatrainRhyme": "quatrains",
    "QuatrainTones": "quatrains",
    "Readability": "readability",
    "ReferenceReward": "reference",
    "Regex": "rules",
    "Repetition": "rules",
    "Rhyme": "verse",
    "Rouge": "overlap",
    "SentenceEncoder": "similarity",
    "Similarity": "similarity",
    "Syllables": "verse",
    "Toxicity": "toxicity",
    "TransformersReader": "transformers_reader",
    "WordErrorRate": "error_rates",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
