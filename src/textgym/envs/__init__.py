"""The Gymnasium environments, their tasks and prompts: the game. Imports no torch.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.envs.replies import Reply
    from textgym.envs.task import Task
    from textgym.envs.text_env import TextEnv
    from textgym.envs.text_space import TextSpace
    from textgym.envs.texts.prompts import PromptSource
    from textgym.envs.utterance_tokens import UtteranceTokens
    from textgym.envs.vector_env import TextVectorEnv

__all__ = [
    "PromptSource",
    "Reply",
    "Task",
    "TextEnv",
    "TextSpace",
    "TextVectorEnv",
    "UtteranceTokens",
]

_MODULES = {
    "PromptSource": "texts.prompts",
    "Reply": "replies",
    "Task": "task",
    "TextEnv": "text_env",
    "TextSpace": "text_space",
    "TextVectorEnv": "vector_env",
    "UtteranceTokens": "utterance_tokens",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
