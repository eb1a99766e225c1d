"""Text generation as a Gymnasium environment, trained by unmodified Stable-Baselines3 agents.

Importing this registers the built-in environment ids with Gymnasium. The names below are loaded
when they are first used, so that `import textgym` is fast and imports no torch.
"""

from textgym.starting import guard_start as _guard_start

_guard_start()

TYPE_CHECKING = False  # what type checkers read as True; `typing` takes a while to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from textgym.agents.language_modelling import pretrain, sft
    from textgym.agents.reward_fitting import fit_reward
    from textgym.making import get_task, make_vec, register, register_reward
    from textgym.reward_names import resolve_reward
    from textgym.rewards import RewardOutput
    from textgym.tokenizer import Tokenizer
    from textgym.training import train
    from textgym.verbs import evaluate, generate, load_agent, make_agent

__version__ = "0.1.0"

__all__ = [
    "RewardOutput",
    "Tokenizer",
    "evaluate",
    "fit_reward",
    "generate",
    "get_task",
    "load_agent",
    "make_agent",
    "make_vec",
    "pretrain",
    "register",
    "register_reward",
    "resolve_reward",
    "sft",
    "train",
]

_MODULES = {
    "RewardOutput": "rewards",
    "Tokenizer": "tokenizer",
    "get_task": "making",
    "make_vec": "making",
    "register": "making",
    "register_reward": "making",
    "resolve_reward": "reward_names",
    "evaluate": "verbs",
    "fit_reward": "agents.reward_fitting",
    "generate": "verbs",
    "load_agent": "verbs",
    "make_agent": "verbs",
    "pretrain": "agents.language_modelling",
    "sft": "agents.language_modelling",
    "train": "training",
}


def _start() -> "tuple[Callable[[str], Any], Callable[[], list[str]]]":
    from textgym.lazy_names import lazy_names
    from textgym.making import register_builtin_tasks

    register_builtin_tasks()
    return lazy_names(__name__, _MODULES)


__getattr__, __dir__ = _start()
