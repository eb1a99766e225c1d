"""The player: language model, sampling, Stable-Baselines3 policy, pretraining.

The names below are loaded when they are first used.
"""

from typing import TYPE_CHECKING

from textgym.lazy_names import lazy_names

if TYPE_CHECKING:
    from textgym.policies.actor_critic import TextActorCriticPolicy
    from textgym.policies.causal_lm import CausalLM, CausalLMConfig
    from textgym.policies.q_policy import TextQPolicy
    from textgym.policies.quantile_network import TextQuantilePolicy
    from textgym.policies.sampling import Sampling

__all__ = [
    "CausalLM",
    "CausalLMConfig",
    "Sampling",
    "TextActorCriticPolicy",
    "TextQPolicy",
    "TextQuantilePolicy",
]

_MODULES = {
    "CausalLM": "causal_lm",
    "CausalLMConfig": "causal_lm",
    "Sampling": "sampling",
    "TextActorCriticPolicy": "actor_critic",
    "TextQPolicy": "q_policy",
    "TextQuantilePolicy": "quantile_network",
}


__getattr__, __dir__ = lazy_names(__name__, _MODULES)
