"""The judge: rules, metrics, compositions, learned reward models and models as judges.

The names below are loaded when they are first used; the rules and the lexicon import no torch.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.reward_models.caching import Cached
    from textgym.reward_models.composition import WeightedSum
    from textgym.reward_models.for_trl import from_trl, to_trl
    from textgym.reward_models.gating import Gate
    from textgym.reward_models.human_agreement import HumanAgreement, agreement_with_people
    from textgym.reward_models.judges.chat_judge import ChatJudge
    from textgym.reward_models.judges.local_judge import LocalJudge
    from textgym.reward_models.judges.preferring import judged_pairs
    from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
    from textgym.reward_models.learned.ensemble import Ensemble
    from textgym.reward_models.learned.fit_report import FitReport
    from textgym.reward_models.learned.fitting import fit_bradley_terry, fit_reward_model
    from textgym.reward_models.learned.fitting_loop import FitProgress
    from textgym.reward_models.learned.head_fitting import fit_heads
    from textgym.reward_models.learned.ngrams import NgramBradleyTerry, NgramLogistic, NgramRidge
    from textgym.reward_models.learned.process import ProcessRewardModel
    from textgym.reward_models.learned.process_fitting import fit_process
    from textgym.reward_models.learned.stacking import stack_frozen, stack_whole
    from textgym.reward_models.learned.transformers_trunk import TransformersTrunk
    from textgym.reward_models.learned.trunk_reward import TrunkRewardModel
    from textgym.reward_models.length_penalties import OverlongPenalty, ShortnessPenalty
    from textgym.reward_models.lexicographic import Lexicographic, Ranked
    from textgym.reward_models.lexicon_scores import LexiconScores
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
    from textgym.reward_models.time_limit import TimeLimit
    from textgym.reward_models.worker_pool import WorkerPool
    from textgym.reward_models.wrappers import Clip, Normalize, Squash

__all__ = [
    "Bleu",
    "BradleyTerryRewardModel",
    "Cached",
    "CharacterErrorRate",
    "ChatJudge",
    "ChineseSentiment",
    "Chrf",
    "Clip",
    "Ensemble",
    "ExactMatch",
    "FitProgress",
    "FitReport",
    "Fluency",
    "Gate",
    "HumanAgreement",
    "JsonSchema",
    "Keyword",
    "Length",
    "Lexicographic",
    "Lexicon",
    "LexiconScores",
    "LocalJudge",
    "NgramBradleyTerry",
    "NgramLogistic",
    "NgramRidge",
    "Normalize",
    "Novelty",
    "NumericAnswer",
    "OverlongPenalty",
    "ProcessRewardModel",
    "Quatrain",
    "QuatrainForm",
    "QuatrainRhyme",
    "QuatrainTones",
    "Ranked",
    "Readability",
    "ReferenceReward",
    "Regex",
    "Repetition",
    "Rhyme",
    "Rouge",
    "SentenceEncoder",
    "ShortnessPenalty",
    "Similarity",
    "Squash",
    "Syllables",
    "TimeLimit",
    "Toxicity",
    "TransformersReader",
    "TransformersTrunk",
    "TrunkRewardModel",
    "WeightedSum",
    "WordErrorRate",
    "WorkerPool",
    "agreement_with_people",
    "fit_bradley_terry",
    "fit_heads",
    "fit_process",
    "fit_reward_model",
    "from_trl",
    "judged_pairs",
    "stack_frozen",
    "stack_whole",
    "to_trl",
]

_MODULES = {
    "Bleu": "rules.overlap",
    "BradleyTerryRewardModel": "learned.bradley_terry",
    "Cached": "caching",
    "CharacterErrorRate": "rules.error_rates",
    "ChineseSentiment": "rules.chinese_sentiment",
    "Chrf": "rules.overlap",
    "ChatJudge": "judges.chat_judge",
    "Clip": "wrappers",
    "Ensemble": "learned.ensemble",
    "ExactMatch": "rules.answers",
    "FitProgress": "learned.fitting_loop",
    "FitReport": "learned.fit_report",
    "Fluency": "rules.fluency",
    "Gate": "gating",
    "JsonSchema": "rules.json_schema",
    "HumanAgreement": "human_agreement",
    "Keyword": "rules.rules",
    "Length": "rules.rules",
    "Lexicographic": "lexicographic",
    "Lexicon": "rules.lexicon",
    "LexiconScores": "lexicon_scores",
    "LocalJudge": "judges.local_judge",
    "NgramBradleyTerry": "learned.ngrams",
    "NgramLogistic": "learned.ngrams",
    "NgramRidge": "learned.ngrams",
    "Normalise": "wrappers",  # its name before 0.1, which warns
    "Normalize": "wrappers",
    "Novelty": "rules.novelty",
    "NumericAnswer": "rules.answers",
    "OverlongPenalty": "length_penalties",
    "ProcessRewardModel": "learned.process",
    "Quatrain": "rules.quatrains",
    "QuatrainForm": "rules.quatrains",
    "QuatrainRhyme": "rules.quatrains",
    "QuatrainTones": "rules.quatrains",
    "Ranked": "lexicographic",
    "Readability": "rules.readability",
    "ReferenceReward": "rules.reference",
    "Regex": "rules.rules",
    "Repetition": "rules.rules",
    "Rhyme": "rules.verse",
    "Rouge": "rules.overlap",
    "SentenceEncoder": "rules.similarity",
    "ShortnessPenalty": "length_penalties",
    "Similarity": "rules.similarity",
    "Squash": "wrappers",
    "Syllables": "rules.verse",
    "TimeLimit": "time_limit",
    "Toxicity": "rules.toxicity",
    "TransformersReader": "rules.transformers_reader",
    "TransformersTrunk": "learned.transformers_trunk",
    "TrunkRewardModel": "learned.trunk_reward",
    "WeightedSum": "composition",
    "WordErrorRate": "rules.error_rates",
    "WorkerPool": "worker_pool",
    "agreement_with_people": "human_agreement",
    "fit_bradley_terry": "learned.fitting",
    "fit_heads": "learned.head_fitting",
    "fit_process": "learned.process_fitting",
    "fit_reward_model": "learned.fitting",
    "from_trl": "for_trl",
    "stack_frozen": "learned.stacking",
    "stack_whole": "learned.stacking",
    "judged_pairs": "judges.preferring",
    "to_trl": "for_trl",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
