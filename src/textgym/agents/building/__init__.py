"""From a word to an agent, and back from its checkpoint.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.agents.building.build import build_agent
    from textgym.agents.building.checkpoint import save_agent

__all__ = ["build_agent", "save_agent"]

_MODULES = {"build_agent": "build", "save_agent": "checkpoint"}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
