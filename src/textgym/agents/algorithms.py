"""The algorithms that `make_agent` knows: for each its class, policy, buffer and defaults.

A word is an `Algorithm` object; `textgym.registry.agents` gives it its name, and a user's package
registers its own in the same way.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SAMPLING_KEYWORDS = ("temperature", "top_k", "top_p")
CRITIC_KEYWORDS = ("value_trunk", "value_lr_scale")
Defaults = Callable[[int, int], dict[str, Any]]


@dataclass(frozen=True)
class Algorithm:
    """An algorithm that `make_agent` knows by name.

    :param target: "module:class" of the algorithm, Stable-Baselines3's own wherever it has one.
    :param description: when to choose it, in a line.
    :param defaults: its keywords, from the task's budget in tokens and the number of environments.
    :param policy: "module:class" of its policy, which takes `model` among its keywords.
    :param policy_keywords: keywords that `make_agent` hands to the policy.
    :param has_critic: the policy has a value head, with a rate and a warm-up of its own.
    :param buffer: "module:class" of its buffer; None if it makes its own.
    :param buffer_keyword: SB3's word for it: "rollout_buffer" or "replay_buffer".
    :param kl: where a `KLPenalty` goes: "buffer" (its keyword `kl`), "algorithm" (likewise) or
        "refused".
    :param has_groups: several completions of one prompt; takes `num_generations`.
    """

    target: str
    description: str
    defaults: Defaults
    policy: str = "textgym.policies.actor_critic:TextActorCriticPolicy"
    policy_keywords: tuple[str, ...] = (*SAMPLING_KEYWORDS, *CRITIC_KEYWORDS)
    has_critic: bool = True
    buffer: str | None = "textgym.agents.rollout_buffer:EpisodeRolloutBuffer"
    buffer_keyword: str = "rollout_buffer"
    kl: str = "buffer"
    has_groups: bool = False


def load_class(target: str) -> Any:
    """The class that "module:class" names."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


def divisor_near(total: int, wanted: float) -> int:
    """The divisor of `total` whose count of parts is nearest to `wanted`, at least two elements."""
    counts = [n for n in range(1, total // 2 + 1) if total % n == 0]
    return total // min(counts, key=lambda n: abs(math.log(n / wanted)))


def minibatch_size(total: int) -> int:
    """A divisor of a rollout's tokens, as near as can be to four minibatches of at most 512."""
    return divisor_near(total, max(4.0, total / 512))


def _ppo(budget: int, n_envs: int) -> dict[str, Any]:
    n_steps = max(2 * budget, 2)
    return {
        "learning_rate": 3e-4,
        "n_steps": n_steps,
        "batch_size": minibatch_size(n_steps * n_envs),
        "n_epochs": 4,
        "gamma": 1.0,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
        "ent_coef": 0.0,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
    }


def _a2c(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 5e-4,
        "n_steps": max(budget, 2),
        "gamma": 1.0,
        "gae_lambda": 0.95,
        "ent_coef": 0.0,
        "vf_coef": 0.5,
        "max_grad_norm": 0.5,
        "normalize_advantage": True,
        "use_rms_prop": False,
    }


def _trpo(budget: int, n_envs: int) -> dict[str, Any]:
    n_steps = max(2 * budget, 2)
    return {
        "learning_rate": 1e-3,  # of the critic; the policy's step is set by target_kl
        "n_steps": n_steps,
        "batch_size": minibatch_size(n_steps * n_envs),
        "gamma": 1.0,
        "gae_lambda": 0.95,
        "cg_max_steps": 10,
        "target_kl": 0.01,
        "n_critic_updates": 4,
    }


PPO = Algorithm(
    "stable_baselines3:PPO",
    "the safe default: several clipped passes over each rollout",
    _ppo,
)
A2C = Algorithm(
    "stable_baselines3:A2C",
    "one plain gradient step per rollout: simpler and quicker, wants more tokens",
    _a2c,
)
TRPO = Algorithm(
    "sb3_contrib:TRPO",
    "steps of a fixed KL divergence: steady without tuning a learning rate, several passes each",
    _trpo,
)
