"""Specifications of the algorithms that come with textgym: class, policy, buffer and defaults.

Defaults are those that learn on text, from the task's budget in tokens and the environments, with a
small fresh model; `model_defaults` fits them to another. When to choose which word is said where
they are registered, in `textgym.registry`.
"""

from typing import Any

from textgym.agents.building.sizes import group_size, minibatch_size
from textgym.agents.building.specs import (
    COMPUTE_KEYWORDS,
    LORA_KEYWORDS,
    SAMPLING_KEYWORDS,
    VALUE_KEYWORDS,
    CriticFreeSpec,
    OffPolicySpec,
    OnPolicySpec,
)


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


def _dqn(budget: int, n_envs: int) -> dict[str, Any]:
    rollout = max(budget, 1) * n_envs
    batch_size = min(512, max(32, rollout // 4))
    return {
        "learning_rate": 3e-4,
        "buffer_size": 16 * rollout,
        "learning_starts": 0,  # SB3 would play uniform tokens until then
        "batch_size": batch_size,
        "train_freq": max(budget, 1),
        "gradient_steps": max(1, 4 * rollout // batch_size),
        "target_update_interval": 4 * rollout,
        "gamma": 1.0,
        "exploration_initial_eps": 0.0,  # the language model explores, see TextQPolicy
        "exploration_final_eps": 0.0,
        "exploration_fraction": 0.1,
        "max_grad_norm": 10.0,
    }


def _grpo(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 3e-4,
        "num_generations": group_size(n_envs, 8),
        "n_groups": max(1, 2 * n_envs // group_size(n_envs, 8)),
        "batch_size": 512,
        "n_epochs": 4,
        "clip_range": 0.2,
        "max_grad_norm": 0.5,
    }


def _rloo(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 5e-4,
        "num_generations": group_size(n_envs, 4),
        "n_epochs": 1,
        "max_grad_norm": 0.5,
    }


def _reinforce(budget: int, n_envs: int) -> dict[str, Any]:
    return {"learning_rate": 5e-4, "n_epochs": 1, "max_grad_norm": 0.5}


def _best_of_n(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 1e-4,
        "num_generations": group_size(n_envs, 4),
        "n_groups": max(1, 2 * n_envs // group_size(n_envs, 4)),
        "batch_size": 512,
        "n_epochs": 2,
        "max_grad_norm": 0.5,
    }


def _dpo(budget: int, n_envs: int) -> dict[str, Any]:
    return {
        "learning_rate": 1e-4,
        "num_generations": max(2, group_size(n_envs, 2)),
        "batch_size": 1024,
        "n_epochs": 1,
        "kl_coef": 0.1,
        "max_grad_norm": 0.5,
    }


def _nlpo(budget: int, n_envs: int) -> dict[str, Any]:
    return {**_ppo(budget, n_envs), "mask_update_interval": 5}


PPO = OnPolicySpec("stable_baselines3:PPO", _ppo, fits_model=True)
A2C = OnPolicySpec("stable_baselines3:A2C", _a2c, fits_model=True)
TRPO = OnPolicySpec(  # which differentiates twice: nothing can be computed again there
    "sb3_contrib:TRPO",
    _trpo,
    fits_model=True,
    policy_keywords=(*SAMPLING_KEYWORDS, *VALUE_KEYWORDS, *LORA_KEYWORDS, "dtype"),
)
MASKABLE_PPO = OnPolicySpec(
    "sb3_contrib:MaskablePPO",
    _ppo,
    fits_model=True,
    policy="textgym.policies.sb3.maskable:MaskableTextPolicy",
    buffer="textgym.agents.rollouts.maskable_rollout_buffer:MaskableEpisodeRolloutBuffer",
)
NLPO = OnPolicySpec(
    "textgym.agents.algorithms.nlpo:NLPO",
    _nlpo,
    fits_model=True,
    policy="textgym.policies.sb3.top_p_mask:TopPMaskPolicy",
    policy_keywords=(
        "temperature",
        *VALUE_KEYWORDS,
        "mask_top_p",
        *LORA_KEYWORDS,
        *COMPUTE_KEYWORDS,
    ),
)
DQN = OffPolicySpec("stable_baselines3:DQN", _dqn, fits_model=True)
QRDQN = OffPolicySpec(
    "sb3_contrib:QRDQN",
    _dqn,
    fits_model=True,
    policy="textgym.policies.sb3.quantile_network:TextQuantilePolicy",
    policy_keywords=(
        *SAMPLING_KEYWORDS,
        "value_lr_scale",
        "q_temperature",
        "n_quantiles",
        *LORA_KEYWORDS,
    ),
)
GRPO = CriticFreeSpec("textgym.agents.algorithms.grpo:GRPO", _grpo, fits_model=True)
RLOO = CriticFreeSpec("textgym.agents.algorithms.rloo:RLOO", _rloo, fits_model=True)
REINFORCE = CriticFreeSpec(
    "textgym.agents.algorithms.reinforce:REINFORCE", _reinforce, fits_model=True
)
BEST_OF_N = CriticFreeSpec(
    "textgym.agents.algorithms.best_of_n:BestOfN", _best_of_n, has_kl=False, fits_model=True
)
DPO = CriticFreeSpec("textgym.agents.algorithms.dpo:DPO", _dpo, fits_model=True)
