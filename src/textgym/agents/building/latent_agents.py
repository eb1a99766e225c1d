"""Agents with latent actions: continuous algorithms of Stable-Baselines3's, with stock policies.

An episode is one step (a turn of a dialogue is one), so n rows collect n texts a step, and there is
nothing to bootstrap from: γ is 1. Defaults are per text where SB3's are per step of a simulator.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.building.keywords import Keyword, keywords_of_classes
from textgym.checks import RANGES, check_numbers
from textgym.errors import InputError, TextGymError, unknown_name
from textgym.registry import agents, latent_agents
from textgym.signatures import constructors, load_attribute

POLICY = "MlpPolicy"
SET_HERE = ("self", "policy", "env", "seed", "_init_setup_model")


@dataclass(frozen=True)
class LatentSpec:
    """What a word for `make_agent(..., decoder=...)` stands for.

    :param target: "module:class" of the algorithm.
    :param defaults: its keywords, from the number of rows and of latents.
    """

    target: str
    defaults: Callable[[int, int], dict[str, Any]]

    @property
    def algorithm_class(self) -> Any:
        """The algorithm's class, imported now."""
        return load_attribute(self.target)


def _actor_critic(n_envs: int, latents: int) -> dict[str, Any]:
    return {
        "learning_rate": 1e-3,
        "buffer_size": 100_000,
        "learning_starts": max(256, 4 * n_envs),
        "batch_size": 256,
        "train_freq": 1,
        "gradient_steps": max(1, n_envs // 4),
        "gamma": 1.0,
    }


def _deterministic(n_envs: int, latents: int) -> dict[str, Any]:
    from stable_baselines3.common.noise import NormalActionNoise
    from torch.nn import SiLU

    # In units of half the space: a standard deviation of the prior where the limit is 3.
    noise = NormalActionNoise(np.zeros(latents), np.full(latents, 1 / 3))
    # A critic learns the best texts as those where all its units are off. With ReLU it is flat
    # there, so that an actor without noise of its own stops at the edge and never moves again.
    policy = {"activation_fn": SiLU}
    return {**_actor_critic(n_envs, latents), "action_noise": noise, "policy_kwargs": policy}


def _crossq(n_envs: int, latents: int) -> dict[str, Any]:
    # Its own defaults are for a million updates: averages over hundreds of them, critics 1,024
    # wide, and an entropy coefficient that takes thousands to fall from 1.
    policy = {"batch_norm_momentum": 0.1, "net_arch": [256, 256]}
    settings = {"policy_delay": 1, "ent_coef": "auto_0.1", "policy_kwargs": policy}
    return {**_actor_critic(n_envs, latents), **settings}


def _ppo(n_envs: int, latents: int) -> dict[str, Any]:
    quarter = max(1, 64 // n_envs)  # minibatches that divide a rollout
    return {
        "learning_rate": 1e-3,
        "n_steps": 4 * quarter,
        "batch_size": max(2, quarter * n_envs),
        "n_epochs": 8,
        "gamma": 1.0,
        "gae_lambda": 1.0,
    }


def _a2c(n_envs: int, latents: int) -> dict[str, Any]:
    return {
        "learning_rate": 2e-3,
        "n_steps": max(2, 64 // n_envs),
        "gamma": 1.0,
        "gae_lambda": 1.0,
        "normalize_advantage": True,
        "use_rms_prop": False,
    }


def _trpo(n_envs: int, latents: int) -> dict[str, Any]:
    quarter = max(1, 128 // n_envs)
    return {
        "n_steps": 4 * quarter,
        "batch_size": max(2, quarter * n_envs),
        "gamma": 1.0,
        "gae_lambda": 1.0,
    }


def _ars(n_envs: int, latents: int) -> dict[str, Any]:
    return {
        "n_delta": 16,
        "n_top": 8,
        "learning_rate": 0.05,
        "delta_std": 0.1,
        "zero_policy": False,
    }


SAC = LatentSpec("stable_baselines3:SAC", _actor_critic)
TD3 = LatentSpec("stable_baselines3:TD3", _deterministic)
DDPG = LatentSpec("stable_baselines3:DDPG", _deterministic)
TQC = LatentSpec("sb3_contrib:TQC", _actor_critic)
CROSSQ = LatentSpec("sb3_contrib:CrossQ", _crossq)
PPO = LatentSpec("stable_baselines3:PPO", _ppo)
A2C = LatentSpec("stable_baselines3:A2C", _a2c)
TRPO = LatentSpec("sb3_contrib:TRPO", _trpo)
ARS = LatentSpec("sb3_contrib:ARS", _ars)


def latent_spec_of(name: str) -> LatentSpec:
    """The record behind a word.

    :raises UnknownNameError: for one that plays tokens only, or none.
    """
    if name in agents and name not in latent_agents:
        words = ", ".join(latent_agents.names())
        raise InputError(
            f"agent {name!r} chooses among tokens, and a decoder's actions are points of a space: "
            f"take one of {words}, or leave decoder out"
        )
    spec = latent_agents.resolve(name)
    if not isinstance(spec, LatentSpec):
        raise InputError(f"latent agent {name!r} is {spec!r:.60}, expected a LatentSpec")
    return spec


def latent_keywords(spec: LatentSpec) -> dict[str, Keyword]:
    """The keywords that `make_agent(..., decoder=...)` takes for a word: the algorithm's own."""
    return keywords_of_classes(constructors(spec.algorithm_class), leaving_out=SET_HERE)


def takes_words(keyword: Keyword) -> bool:
    """Whether a word may stand for the number that a keyword is, as SAC's ent_coef="auto"."""
    return isinstance(keyword.parameter.default, str)


def without_words(name: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of an algorithm without those that it is to find by itself, such as ent_coef="auto".

    :raises InputError: for another word where one may stand.
    """
    known = latent_keywords(latent_spec_of(name))
    may_be_found = {key for key in RANGES.keys() & known if takes_words(known[key])}
    numbers = {}
    for key, value in keywords.items():
        if key not in may_be_found or not isinstance(value, str):
            numbers[key] = value
        elif not _is_auto(value, may_begin=key == "ent_coef"):
            begin = " or 'auto_0.1' (where it begins)" if key == "ent_coef" else ""
            raise InputError(f"{key} must be a number, 'auto'{begin}, got {value!r:.60}")
    return numbers


def check_plays_tokens(name: str) -> None:
    """Raises for a word that plays latents only.

    :raises InputError: naming what it needs.
    """
    if name in latent_agents and name not in agents:
        raise InputError(
            f"agent {name!r} has continuous actions: give decoder='runs/vae', the directory of a "
            "text VAE, or take one that chooses tokens (ppo, grpo, ...)"
        )


def build_latent_agent(
    name: str, env: VecEnv, *, seed: int | None = None, **keywords: Any
) -> BaseAlgorithm:
    """SB3's or sb3-contrib's own class with its stock `MlpPolicy`, on latent actions.

    :param name: a word; see `latent_agents`.
    :param env: what `textgym.make_vec(ID, n, decoder=...)` made.
    :param keywords: the algorithm's own, before the defaults.
    :raises UnknownNameError: for a word or a keyword that does not exist.
    :raises InputError: for keywords that it does not take together.
    """
    spec = latent_spec_of(name)
    known = latent_keywords(spec)
    for key in keywords:
        if key not in known:
            raise unknown_name(f"keyword of agent {name!r} with latent actions", key, known)
    check_numbers({**without_words(name, keywords), "seed": seed})
    settings: Mapping[str, Any] = {
        **spec.defaults(env.num_envs, int(np.prod(env.action_space.shape or (1,)))),
        **keywords,
    }
    try:
        return spec.algorithm_class(POLICY, env, seed=seed, **settings)  # type: ignore[no-any-return]
    except (TypeError, ValueError, AssertionError) as error:
        if isinstance(error, TextGymError):
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"agent {name!r} does not take its keywords: {reason:.200}") from error


def _is_auto(value: str, *, may_begin: bool) -> bool:
    """Whether it is "auto", or "auto_X" with a number X above 0."""
    word, separator, begin = value.partition("_")
    if word != "auto" or not separator:
        return value == "auto"
    is_number = re.fullmatch(r"\d*\.?\d+(e-?\d+)?", begin) is not None
    return may_begin and is_number and 0 < float(begin) <= RANGES["ent_coef"].high
