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

    from textgym.agents.building.checkpoint import save_agent
    from textgym.agents.building.specs import register_agent
    from textgym.agents.fitting.fine_tuning import sft
    from textgym.agents.fitting.language_modelling import pretrain
    from textgym.agents.fitting.reward_fitting import fit_reward
    from textgym.agents.fitting.vae_fitting import pretrain_vae
    from textgym.agents.runs.run import open_run
    from textgym.agents_by_name import make_agent
    from textgym.auditing.run import audit_reward
    from textgym.comparing import compare
    from textgym.environments_by_id import get_task, make_vec, register, register_reward
    from textgym.envs.replies import Reply
    from textgym.evaluating import evaluate, generate
    from textgym.exporting import export
    from textgym.fetching import fetch
    from textgym.preparing import prepare
    from textgym.reporting import diff, report, rescore
    from textgym.rewards import RewardOutput
    from textgym.rewards_by_name import resolve_reward
    from textgym.saved_agents import load_agent
    from textgym.tokenizer import Tokenizer
    from textgym.training import train

__version__ = "0.1.0"

__all__ = [
    "Reply",
    "RewardOutput",
    "Tokenizer",
    "audit_reward",
    "compare",
    "diff",
    "evaluate",
    "export",
    "fetch",
    "fit_reward",
    "generate",
    "get_task",
    "load_agent",
    "make_agent",
    "make_vec",
    "open_run",
    "prepare",
    "pretrain",
    "pretrain_vae",
    "register",
    "register_agent",
    "register_reward",
    "report",
    "rescore",
    "resolve_reward",
    "save_agent",
    "sft",
    "train",
]

_MODULES = {
    "Reply": "envs.replies",
    "RewardOutput": "rewards",
    "Tokenizer": "tokenizer",
    "get_task": "environments_by_id",
    "make_vec": "environments_by_id",
    "register": "environments_by_id",
    "register_reward": "environments_by_id",
    "resolve_reward": "rewards_by_name",
    "audit_reward": "auditing.run",
    "compare": "comparing",
    "diff": "reporting",
    "evaluate": "evaluating",
    "export": "exporting",
    "fetch": "fetching",
    "fit_reward": "agents.fitting.reward_fitting",
    "generate": "evaluating",
    "load_agent": "saved_agents",
    "make_agent": "agents_by_name",
    "open_run": "agents.runs.run",
    "prepare": "preparing",
    "pretrain": "agents.fitting.language_modelling",
    "pretrain_vae": "agents.fitting.vae_fitting",
    "register_agent": "agents.building.specs",
    "report": "reporting",
    "rescore": "reporting",
    "save_agent": "agents.building.checkpoint",
    "sft": "agents.fitting.fine_tuning",
    "train": "training",
}


def _start() -> "tuple[Callable[[str], Any], Callable[[], list[str]]]":
    from textgym.environments_by_id import register_builtin_tasks
    from textgym.lazy_names import lazy_names
    from textgym.moved import know_moved_modules

    register_builtin_tasks()
    know_moved_modules()
    return lazy_names(__name__, _MODULES)


__getattr__, __dir__ = _start()
