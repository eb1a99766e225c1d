"""Agents and learned reward models on disk: what a checkpoint holds beside the language model.

A checkpoint of an agent is a directory that transformers opens as the language model. Our trainer
state stands beside it in safetensors and JSON: value head, optimizer, generators, settings, and the
reference model of the KL term in `reference/`. No pickle is written or read.
"""

from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.kl import KLPenalty
from textgym.errors import InputError
from textgym.paths import expand
from textgym.policies.actor_critic import TextActorCriticPolicy
from textgym.policies.causal_lm import CausalLM
from textgym.policies.checkpoint import (
    checkpoint_directory,
    read_trainer_state,
    write_model,
    write_trainer_state,
)
from textgym.policies.q_policy import SoftQPolicy
from textgym.reward_models.bradley_terry import KIND as BRADLEY_TERRY
from textgym.reward_models.bradley_terry import TRUNK_FOLDER, BradleyTerryRewardModel
from textgym.reward_models.ngrams import NgramModel
from textgym.rewards import Reward
from textgym.storage import atomic_directory, read_json, recover, verify_directory

REFERENCE = "reference"
# Where a policy's state holds the language model, which a checkpoint holds once.
_LANGUAGE_MODEL = ("lm.", "q_net.lm.", "quantile_net.lm.")


def save_agent(agent: BaseAlgorithm, directory: str | Path, *, environment: dict[str, Any]) -> None:
    """Write an agent made by `make_agent`, atomically.

    :param environment: what `load_agent` needs to make the environment again (JSON values).
    :raises InputError: for an agent of another policy.
    :raises StorageError: if the directory cannot be written.
    """
    policy = _text_policy(agent)
    kl = _kl_penalty(agent)
    generator = policy.generator
    state = {
        "settings": agent.text_settings,  # type: ignore[attr-defined]
        "environment": environment,
        "num_timesteps": agent.num_timesteps,
        "n_updates": getattr(agent, "_n_updates", 0),
        "value": {
            name: tensor
            for name, tensor in policy.state_dict().items()
            if not name.startswith(_LANGUAGE_MODEL)
        },
        "optimizer": policy.optimizer.state_dict(),
        "generator": None if generator is None else generator.get_state(),
        "policy_seed": policy.seed,
        "kl_coefficient": None if kl is None else kl.coefficient,
        "also": {name: getattr(agent, name) for name in getattr(agent, "also_saved", ())},
    }
    with atomic_directory(expand(directory)) as temporary:
        write_model(policy.lm, temporary)
        write_trainer_state(state, temporary)
        if kl is not None:
            (temporary / REFERENCE).mkdir()
            write_model(kl.reference(policy.lm.device), temporary / REFERENCE)


def read_agent(directory: str | Path) -> tuple[CausalLM, CausalLM | None, dict[str, Any]]:
    """The language model, the reference (None without a KL term) and the state of a checkpoint.

    :raises InputError: if it is no checkpoint of an agent, or damaged.
    """
    directory = checkpoint_directory(directory)
    verify_directory(directory)
    state = read_trainer_state(directory)
    if not isinstance(state, dict) or "environment" not in state:
        raise InputError(f"{directory}: a language model's checkpoint, not one of an RL agent")
    reference = None
    if (directory / REFERENCE / "config.json").is_file():
        reference = CausalLM.from_pretrained(directory / REFERENCE).requires_grad_(False)
    return CausalLM.from_pretrained(directory), reference, state


def restore_agent(
    agent: BaseAlgorithm, state: dict[str, Any], *, keep_kl_coefficient: bool = True
) -> None:
    """Give a freshly built agent the state of a checkpoint; its weights it has already.

    :param keep_kl_coefficient: take the coefficient from the checkpoint too, which a target may
        have moved.
    :raises InputError: if the two do not fit.
    """
    policy = _text_policy(agent)
    try:
        policy.load_state_dict({**policy.state_dict(), **state["value"]})
        policy.optimizer.load_state_dict(state["optimizer"])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"the checkpoint does not fit this agent: {error!s:.120}") from None
    policy.seed = state["policy_seed"]
    if state["generator"] is not None:
        policy.generator = torch.Generator(policy.lm.device)
        policy.generator.set_state(state["generator"].cpu())
    agent.num_timesteps = int(state["num_timesteps"])
    agent._n_updates = int(state["n_updates"])
    for name in getattr(agent, "also_saved", ()):
        if name in state.get("also", {}):
            setattr(agent, name, state["also"][name])
    kl, saved = _kl_penalty(agent), state["kl_coefficient"]
    if kl is not None and keep_kl_coefficient and saved is not None:
        kl.coefficient = float(saved)


def _kl_penalty(agent: BaseAlgorithm) -> KLPenalty | None:
    """The KL term of an agent: its buffer's, or its own where it has no rollout buffer."""
    buffer = getattr(agent, "rollout_buffer", None)
    return getattr(agent if buffer is None else buffer, "kl", None)


def load_reward(directory: str | Path) -> Reward:
    """A reward model that was saved: `fit_reward`'s on a trunk, or one on n-grams.

    The trunk is opened here and handed over, so that reward models know no language model.

    :raises InputError: if the directory holds none.
    """
    directory = reward_directory(directory)
    verify_directory(directory)
    fields = read_json(directory / "reward_model.json")
    if isinstance(fields, dict) and fields.get("kind") == BRADLEY_TERRY:
        trunk = CausalLM.from_pretrained(directory / TRUNK_FOLDER)
        return BradleyTerryRewardModel.from_pretrained(directory, trunk)
    return NgramModel.from_pretrained(directory)


def reward_directory(path: str | Path) -> Path:
    """The reward model meant by a path: itself, or the one of a run directory.

    :raises InputError: if there is none.
    """
    path = expand(path)
    for candidate in (path, path / "checkpoints" / "best", path / "checkpoints" / "last"):
        recover(candidate)
        if (candidate / "reward_model.json").is_file():
            return candidate
    raise InputError(f"{path}: holds no reward_model.json, so it is no reward model (fit-reward)")


def _text_policy(agent: BaseAlgorithm) -> TextActorCriticPolicy | SoftQPolicy:
    policy = agent.policy
    is_ours = hasattr(agent, "text_settings")
    if not isinstance(policy, TextActorCriticPolicy | SoftQPolicy) or not is_ours:
        raise InputError(
            "only agents made by make_agent can be saved as a directory: for others use SB3's own "
            "save, or CausalLM.from_agent(agent).save_pretrained(directory)"
        )
    return policy
