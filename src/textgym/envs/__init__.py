"""The game: tasks, prompts and the Gymnasium environments. Imports no torch.

The names below are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgym.envs.prompts import PromptSource
    from textgym.envs.task import Task
    from textgym.envs.text_env import TextEnv
    from textgym.envs.text_space import TextSpace
    from textgym.envs.utterance_tokens import UtteranceTokens
    from textgym.envs.vector_env import TextVectorEnv

__all__ = ["PromptSource", "Task", "TextEnv", "TextSpace", "TextVectorEnv", "UtteranceTokens"]

_MODULES = {
    "PromptSource": "prompts",
    "Task": "task",
    "TextEnv": "text_env",
    "TextSpace": "text_space",
    "TextVectorEnv": "vector_env",
    "UtteranceTokens": "utterance_tokens",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
