"""Playing held-out prompts, and what is reported of the texts.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.agents.evaluation.oracle import Oracle
    from textgym.agents.evaluation.play import SequentialPrompts
    from textgym.agents.evaluation.report import EvaluationReport

__all__ = [
    "EvaluationReport",
    "Oracle",
    "SequentialPrompts",
]

_MODULES = {
    "EvaluationReport": "report",
    "Oracle": "oracle",
    "SequentialPrompts": "play",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
