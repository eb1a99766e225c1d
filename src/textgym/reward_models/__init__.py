"""The judge: rules, metrics, compositions and learned reward models.

The names below are loaded when they are first used; the rules and the lexicon import no torch.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.reward_models.composition import ShortnessPenalty, WeightedSum
    from textgym.reward_models.for_trl import from_trl, to_trl
    from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
    from textgym.reward_models.learned.ensemble import Ensemble
    from textgym.reward_models.learned.fitting import FitReport, fit_bradley_terry
    from textgym.reward_models.learned.fitting_loop import FitProgress
    from textgym.reward_models.learned.ngrams import NgramBradleyTerry, NgramLogistic, NgramRidge
    from textgym.reward_models.rules.lexicon import Lexicon
    from textgym.reward_models.rules.rules import Keyword, Length, Regex, Repetition
    from textgym.reward_models.wrappers import Clip, Normalize, Squash

__all__ = [
    "BradleyTerryRewardModel",
    "Clip",
    "Ensemble",
    "FitProgress",
    "FitReport",
    "Keyword",
    "Length",
    "Lexicon",
    "NgramBradleyTerry",
    "NgramLogistic",
    "NgramRidge",
    "Normalize",
    "Regex",
    "Repetition",
    "ShortnessPenalty",
    "Squash",
    "WeightedSum",
    "fit_bradley_terry",
    "from_trl",
    "to_trl",
]

_MODULES = {
    "BradleyTerryRewardModel": "learned.bradley_terry",
    "Clip": "wrappers",
    "Ensemble": "learned.ensemble",
    "FitProgress": "learned.fitting_loop",
    "FitReport": "learned.fitting",
    "Keyword": "rules.rules",
    "Length": "rules.rules",
    "Lexicon": "rules.lexicon",
    "NgramBradleyTerry": "learned.ngrams",
    "NgramLogistic": "learned.ngrams",
    "NgramRidge": "learned.ngrams",
    "Normalise": "wrappers",  # its name before 0.1, which warns
    "Normalize": "wrappers",
    "Regex": "rules.rules",
    "Repetition": "rules.rules",
    "ShortnessPenalty": "composition",
    "Squash": "wrappers",
    "WeightedSum": "composition",
    "fit_bradley_terry": "learned.fitting",
    "from_trl": "for_trl",
    "to_trl": "for_trl",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
