"""Agents on disk: what a checkpoint holds beside the language model.

A checkpoint of an agent is a directory that transformers opens as the language model. Our trainer
state stands beside it in safetensors and JSON: value head, optimizer, generators, settings, and the
reference model of the KL term in `reference/`. No pickle is written or read.

With an adapter (`lora_rank`) the model at the top is the merged one; the adapter alone, as peft has
it, stands in `adapter/`, and in `base/` the model that both belong to, which is the reference too.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.building.latent_checkpoint import save_latent_agent
from textgym.agents.building.named_files import named_files
from textgym.agents.building.saved_state import check_agent_state
from textgym.agents.building.training_state import load_training_state, training_state
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.runs.fingerprints import computed_with
from textgym.agents.runs.recorder_state import go_on_at
from textgym.agents.runs.recording import recorder_of
from textgym.directories import atomic_directory
from textgym.divergence import LARGEST_WEIGHT, check_weights
from textgym.errors import DivergenceError, InputError
from textgym.optimization import check_optimizer_state, to_arrays, to_tensors
from textgym.paths import expand
from textgym.policies.language_model.adapters import ADAPTER, is_of_adapter, write_adapter
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import (
    checkpoint_directory,
    read_trainer_state,
    write_model,
    write_trainer_state,
)
from textgym.policies.language_model.models_by_name import open_model
from textgym.policies.language_model.run_checkpoints import checkpoints_of, read_first_whole
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.q_policy import SoftQPolicy
from textgym.storage import read_json

REFERENCE, BASE = "reference", "base"
# Why going on from a checkpoint is not exact.
NO_TRAINING_STATE = (
    "the checkpoint is of an earlier version, which kept weights, optimizer and counters, but not "
    "the open episodes and the generators: they begin anew"
)
CUT_SHORT = "its last update was cut short"
# What comes of a state that belongs to something else, in torch and in NumPy.
NOT_THIS_STATE = (
    KeyError,
    IndexError,
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
)
# Keywords of an agent → what they set in the groups of its optimizer.
_GROUP_SETTINGS = {
    "learning_rate": ("lr",),
    "final_learning_rate": ("lr",),
    "value_lr_scale": ("lr_scale",),
    "value_warmup_rollouts": ("start_step", "start_update"),
}
# Where a policy's state holds the language model, which a checkpoint holds once.
_LANGUAGE_MODEL = ("lm.", "q_net.lm.", "quantile_net.lm.")


def agent_state(agent: BaseAlgorithm) -> dict[str, Any]:
    """What a checkpoint holds of an agent beside its language model, settings and environment.

    Taking it changes nothing. It is good until the next update: what only an update changes is
    referred to, and what a rollout changes is copied.

    :raises InputError: for an agent of another policy.
    """
    policy = _text_policy(agent)
    kl = kl_penalty(agent)
    value = {k: v for k, v in policy.state_dict().items() if _is_kept(policy, k)}
    # SB3's off-policy algorithms renew their target network in the middle of a rollout.
    value |= {k: v.clone() for k, v in value.items() if k.partition(".")[0].endswith("_target")}
    return {
        "num_timesteps": agent.num_timesteps,
        "n_updates": getattr(agent, "_n_updates", 0),
        "value": value,
        "optimizer": policy.optimizer.state_dict(),
        "optimizer_class": type(policy.optimizer).__name__,
        "kl_coefficient": None if kl is None else kl.coefficient,
        "also": {name: getattr(agent, name) for name in getattr(agent, "extra_state", ())},
        "training": training_state(agent),
    }


def save_agent(
    agent: BaseAlgorithm,
    directory: str | Path,
    *,
    environment: dict[str, Any] | None = None,
    keep_old_as: str | None = None,
    state: dict[str, Any] | None = None,
) -> None:
    """Write an agent made by `make_agent`, atomically; with latent actions too, of which the
    directory is all that is given.

    :param environment: what `load_agent` needs to make the environment again, as
        `environment_record` gives it; None: what the agent itself knows.
    :param keep_old_as: the name beside it under which the old directory is kept.
    :param state: what `agent_state` gave since the last update; None: as the agent is now.
    :raises InputError: for an agent of another policy, or another record.
    :raises DivergenceError: for weights that are not finite; what was saved before stays.
    :raises StorageError: if the directory cannot be written.
    """
    if hasattr(agent, "latent_origin"):
        save_latent_agent(agent, directory, keep_old_as=keep_old_as)
        return
    policy = _text_policy(agent)
    check_policy(policy)
    if environment is None:
        environment = agent.text_environment  # type: ignore[attr-defined]
        files = agent.text_files  # type: ignore[attr-defined]
    else:
        settings = agent.text_settings  # type: ignore[attr-defined]
        files = named_files(environment, settings["keywords"])
    if environment.keys() != {"id", "reward", "env_kwargs", "not_saved"}:
        raise InputError(
            "environment must be what environment_record(...) gives: else a checkpoint would come "
            f"back with another environment; got the keys {sorted(environment)}"
        )
    kl = kl_penalty(agent)
    whole = {
        "settings": agent.text_settings,  # type: ignore[attr-defined]
        "environment": environment,
        "files": files,
        "computed_with": computed_with(),
        **(agent_state(agent) if state is None else state),
    }
    whole["training"] = to_tensors(whole["training"])
    with atomic_directory(expand(directory), keep_old_as=keep_old_as) as temporary:
        write_model(policy.lm.merged(), temporary)
        write_trainer_state(whole, temporary)
        if policy.lm.adapter is not None:
            (temporary / ADAPTER).mkdir()
            write_adapter(policy.lm, temporary / ADAPTER)
            (temporary / BASE).mkdir()
            write_model(policy.lm.without_adapter(), temporary / BASE)
        if kl is not None and not kl.is_shared:
            (temporary / REFERENCE).mkdir()
            write_model(kl.reference(policy.lm.device), temporary / REFERENCE)


def _is_kept(policy: TextActorCriticPolicy | SoftQPolicy, name: str) -> bool:
    """Whether the trainer state holds a weight of a policy: not what stands in a model's files."""
    if is_of_adapter(name):
        return True
    is_shared = policy.lm.adapter is not None and name.startswith("mask_lm.")
    return not (name.startswith(_LANGUAGE_MODEL) or is_shared)


@torch.no_grad()
def check_policy(policy: TextActorCriticPolicy | SoftQPolicy) -> None:
    """Raises unless a policy's weights are finite, and probabilities come out of them.

    :raises DivergenceError: saying what is not finite.
    """
    check_weights(policy.state_dict().items())
    check_weights(policy.lm.state_dict().items(), LARGEST_WEIGHT)
    tokenizer = policy.lm.tokenizer
    row = tokenizer.prompt_end_ids or [tokenizer.eos_token_id]
    stop = torch.tensor([row], device=policy.lm.device)
    if not bool(torch.isfinite(policy.lm(stop)).all()):  # finite weights may be too large to use
        raise DivergenceError(
            "the training diverged: the probabilities of the next token are not finite, so the "
            "weights are not saved: lower learning_rate, or the scale of the rewards"
        )


def read_agent(directory: str | Path) -> tuple[CausalLM, CausalLM | None, dict[str, Any]]:
    """The language model, the reference (None without a KL term) and the state of a checkpoint.

    Where the last checkpoint of a run is damaged, the one before is taken, with a warning.

    :raises InputError: if it is no checkpoint of an agent, or damaged.
    """
    places = checkpoints_of(directory, "trainer.json") or [checkpoint_directory(directory)]
    return read_first_whole(places, _read_agent, must_have_manifest=True)


def _read_agent(directory: Path) -> tuple[CausalLM, CausalLM | None, dict[str, Any]]:
    state = read_trainer_state(directory)
    if not isinstance(state, dict) or "environment" not in state:
        raise InputError(f"{directory}: a language model's checkpoint, not one of an RL agent")
    check_agent_state(state, directory / "trainer.json")
    reference = None
    if state["kl_coefficient"] is not None and (directory / REFERENCE).is_dir():
        reference = open_in_its_dtype(directory / REFERENCE).requires_grad_(False)
    base = directory / BASE
    return open_in_its_dtype(base if base.is_dir() else directory), reference, state


def open_in_its_dtype(directory: Path) -> CausalLM:
    """The language model of a checkpoint in the precision that it was trained in."""
    lm = open_model(directory)
    is_half = read_json(directory / "config.json").get("dtype") == "bfloat16"
    return lm.to(torch.bfloat16) if is_half else lm


def restore_agent(
    agent: BaseAlgorithm, state: dict[str, Any], *, given: Collection[str] = ()
) -> list[str]:
    """Give a freshly built agent the state of a checkpoint; its weights it has already.

    :param given: keywords that the agent was built with instead of the saved ones: what they say
        stays, in the optimizer, the generators and the KL term too.
    :return: why going on is not exact, in words; empty where it is.
    :raises InputError: if the two do not fit.
    """
    policy = _text_policy(agent)
    try:
        policy.load_state_dict({**policy.state_dict(), **state["value"]})
        _restore_optimizer(policy.optimizer, state, given)
    except NOT_THIS_STATE as error:
        raise InputError(f"the checkpoint does not fit this agent: {_in_a_line(error)}") from None
    is_seeded = "seed" in given
    agent.num_timesteps = int(state["num_timesteps"])
    agent._n_updates = int(state["n_updates"])
    for name in getattr(agent, "extra_state", ()):
        if name in state.get("also", {}) and not (is_seeded and name == "rng_state"):
            try:
                setattr(agent, name, _of_type(state["also"][name], getattr(agent, name)))
            except NOT_THIS_STATE as error:
                raise InputError(f"the checkpoint's {name} is none: {_in_a_line(error)}") from None
    kl, saved = kl_penalty(agent), state["kl_coefficient"]
    if kl is not None and "kl_coef" not in given and saved is not None:
        kl.coefficient = float(saved)
    if state.get("training") is None:
        if not is_seeded:
            _restore_old_generator(policy, state)
        recorder = recorder_of(agent)
        if recorder is not None:
            step, offset = agent.num_timesteps, int(state["settings"].get("step_offset", 0))
            go_on_at(recorder, step, offset)
        return [NO_TRAINING_STATE]
    try:
        differences = load_training_state(agent, to_arrays(state["training"]), given=given)
    except NOT_THIS_STATE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the checkpoint does not fit this agent: {_in_a_line(error)}") from None
    return differences + [CUT_SHORT] * bool(state.get("is_cut_short"))


def _restore_old_generator(
    policy: TextActorCriticPolicy | SoftQPolicy, state: dict[str, Any]
) -> None:
    """What the checkpoints of version 0.1 held of generators."""
    policy.seed = state.get("policy_seed", policy.seed)
    if state.get("generator") is not None:
        policy.generator = torch.Generator(policy.lm.device)
        try:
            policy.generator.set_state(state["generator"].cpu())
        except NOT_THIS_STATE as error:
            raise InputError(f"the checkpoint's generator is none: {_in_a_line(error)}") from None


def _restore_optimizer(
    optimizer: torch.optim.Optimizer, state: dict[str, Any], given: Collection[str]
) -> None:
    """Moments and counts come from the checkpoint, and of the settings those not given anew."""
    made = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    is_another = state.get("optimizer_class", type(optimizer).__name__) != type(optimizer).__name__
    if is_another and {"policy_kwargs", "optimizer"} & {*given}:
        return  # its moments mean nothing to this one
    check_optimizer_state(optimizer, state["optimizer"])
    optimizer.load_state_dict(state["optimizer"])
    for group, fresh in zip(optimizer.param_groups, made, strict=True):
        names = {name for keyword in given for name in _GROUP_SETTINGS.get(keyword, ())}
        if "policy_kwargs" in given:
            names |= fresh.keys() - {"steps_done", "updates_begun"}
        group.update({name: fresh[name] for name in names & fresh.keys()})


def _in_a_line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.120}"


def _of_type(value: Any, like: Any) -> Any:
    """A value of the type that an agent has there.

    :raises TypeError: if it is of another one.
    """
    kinds: Any = (int, float) if isinstance(like, int | float) else type(like)
    if like is not None and not isinstance(value, kinds):
        raise TypeError(f"expected {type(like).__name__}, got {value!r:.40}")
    return value


def kl_penalty(agent: BaseAlgorithm) -> KLPenalty | None:
    """The KL term of an agent: its buffer's, or its own where it has no rollout buffer."""
    buffer = getattr(agent, "rollout_buffer", None)
    return getattr(agent if buffer is None else buffer, "kl", None)


def _text_policy(agent: BaseAlgorithm) -> TextActorCriticPolicy | SoftQPolicy:
    policy = agent.policy
    is_ours = hasattr(agent, "text_settings")
    if not isinstance(policy, TextActorCriticPolicy | SoftQPolicy) or not is_ours:
        raise InputError(
            "only agents made by make_agent can be saved as a directory: for others use SB3's own "
            "save, or CausalLM.from_agent(agent).save_pretrained(directory)"
        )
    return policy
