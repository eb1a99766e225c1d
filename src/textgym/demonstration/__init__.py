"""`textgym demo`: from a corpus to an agent, step by step.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.demonstration.run import run_demo
    from textgym.demonstration.settings import Settings

__all__ = [
    "Settings",
    "run_demo",
]

_MODULES = {
    "Settings": "settings",
    "run_demo": "run",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
