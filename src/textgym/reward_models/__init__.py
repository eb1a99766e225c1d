"""The judge: rules, metrics, compositions and learned reward models.

The names below are loaded when they are first used; the rules and the lexicon import no torch.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.reward_models.bradley_terry import BradleyTerryRewardModel
    from textgym.reward_models.composition import ShortnessPenalty, WeightedSum
    from textgym.reward_models.ensemble import Ensemble
    from textgym.reward_models.fitting import FitReport, fit_bradley_terry
    from textgym.reward_models.fitting_loop import FitProgress
    from textgym.reward_models.lexicon import Lexicon
    from textgym.reward_models.ngrams import NgramBradleyTerry, NgramLogistic, NgramRidge
    from textgym.reward_models.rules import Keyword, Length, Regex, Repetition
    from textgym.reward_models.wrappers import Clip, Normalise, Squash

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
    "Normalise",
    "Regex",
    "Repetition",
    "ShortnessPenalty",
    "Squash",
    "WeightedSum",
    "fit_bradley_terry",
]

_MODULES = {
    "BradleyTerryRewardModel": "bradley_terry",
    "Clip": "wrappers",
    "Ensemble": "ensemble",
    "FitProgress": "fitting_loop",
    "FitReport": "fitting",
    "Keyword": "rules",
    "Length": "rules",
    "Lexicon": "lexicon",
    "NgramBradleyTerry": "ngrams",
    "NgramLogistic": "ngrams",
    "NgramRidge": "ngrams",
    "Normalise": "wrappers",
    "Regex": "rules",
    "Repetition": "rules",
    "ShortnessPenalty": "composition",
    "Squash": "wrappers",
    "WeightedSum": "composition",
    "fit_bradley_terry": "fitting",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
