"""The judge: rules, metrics, compositions and learned reward models.

The names below are loaded when they are first used; the rules and the lexicon import no torch.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.reward_models.caching import Cached
    from textgym.reward_models.composition import WeightedSum
    from textgym.reward_models.for_trl import from_trl, to_trl
    from textgym.reward_models.gating import Gate
    from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
    from textgym.reward_models.learned.ensemble import Ensemble
    from textgym.reward_models.learned.fitting import FitReport, fit_bradley_terry
    from textgym.reward_models.learned.fitting_loop import FitProgress
    from textgym.reward_models.learned.ngrams import NgramBradleyTerry, NgramLogistic, NgramRidge
    from textgym.reward_models.length_penalties import OverlongPenalty, ShortnessPenalty
    from textgym.reward_models.lexicographic import Lexicographic, Ranked
    from textgym.reward_models.rules.lexicon import Lexicon
    from textgym.reward_models.rules.rules import Keyword, Length, Regex, Repetition
    from textgym.reward_models.time_limit import TimeLimit
    from textgym.reward_models.worker_pool import WorkerPool
    from textgym.reward_models.wrappers import Clip, Normalize, Squash

__all__ = [
    "BradleyTerryRewardModel",
    "Cached",
    "Clip",
    "Ensemble",
    "FitProgress",
    "FitReport",
    "Gate",
    "Keyword",
    "Length",
    "Lexicographic",
    "Lexicon",
    "NgramBradleyTerry",
    "NgramLogistic",
    "NgramRidge",
    "Normalize",
    "OverlongPenalty",
    "Ranked",
    "Regex",
    "Repetition",
    "ShortnessPenalty",
    "Squash",
    "TimeLimit",
    "WeightedSum",
    "WorkerPool",
    "fit_bradley_terry",
    "from_trl",
    "to_trl",
]

_MODULES = {
    "BradleyTerryRewardModel": "learned.bradley_terry",
    "Cached": "caching",
    "Clip": "wrappers",
    "Ensemble": "learned.ensemble",
    "FitProgress": "learned.fitting_loop",
    "FitReport": "learned.fitting",
    "Gate": "gating",
    "Keyword": "rules.rules",
    "Length": "rules.rules",
    "Lexicographic": "lexicographic",
    "Lexicon": "rules.lexicon",
    "NgramBradleyTerry": "learned.ngrams",
    "NgramLogistic": "learned.ngrams",
    "NgramRidge": "learned.ngrams",
    "Normalise": "wrappers",  # its name before 0.1, which warns
    "Normalize": "wrappers",
    "OverlongPenalty": "length_penalties",
    "Ranked": "lexicographic",
    "Regex": "rules.rules",
    "Repetition": "rules.rules",
    "ShortnessPenalty": "length_penalties",
    "Squash": "wrappers",
    "TimeLimit": "time_limit",
    "WeightedSum": "composition",
    "WorkerPool": "worker_pool",
    "fit_bradley_terry": "learned.fitting",
    "from_trl": "for_trl",
    "to_trl": "for_trl",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
