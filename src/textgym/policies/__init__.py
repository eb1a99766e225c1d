"""The player: language model, sampling, Stable-Baselines3 policy, pretraining.

The names below are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgym.optimization import ScaledAdam
    from textgym.policies.actor_critic import TextActorCriticPolicy
    from textgym.policies.causal_lm import CausalLM, CausalLMConfig
    from textgym.policies.sampling import Sampling

__all__ = ["CausalLM", "CausalLMConfig", "Sampling", "ScaledAdam", "TextActorCriticPolicy"]

_MODULES = {
    "CausalLM": "textgym.policies.causal_lm",
    "CausalLMConfig": "textgym.policies.causal_lm",
    "Sampling": "textgym.policies.sampling",
    "ScaledAdam": "textgym.optimization",
    "TextActorCriticPolicy": "textgym.policies.actor_critic",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
