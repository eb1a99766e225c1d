"""The judge: rules, metrics, compositions and learned reward models.

The names below are loaded when they are first used; the rules and the lexicon import no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgym.reward_models.bradley_terry import BradleyTerryRewardModel
    from textgym.reward_models.composition import ShortnessPenalty, WeightedSum
    from textgym.reward_models.fitting import FitProgress, FitReport, fit_bradley_terry
    from textgym.reward_models.lexicon import Lexicon
    from textgym.reward_models.ngrams import NgramBradleyTerry, NgramLogistic, NgramRidge
    from textgym.reward_models.rules import Keyword, Length, Regex, Repetition
    from textgym.reward_models.wrappers import Clip, Normalise, Squash

__all__ = [
    "BradleyTerryRewardModel",
    "Clip",
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
    "FitProgress": "fitting",
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


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
