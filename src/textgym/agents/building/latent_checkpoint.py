"""The checkpoint of an agent with latent actions: data, from which nothing is imported or run.

`latent_agent.json` says which word it is and on which decoder it was trained, and
`policy.safetensors` holds the weights of its stock policy. That is enough to act. The replay buffer
and the optimizer's state are not kept, so there is nothing to go on training from;
Stable-Baselines3's own `agent.save` keeps the optimizer, as a pickle.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.building.latent_agents import (
    build_latent_agent,
    latent_keywords,
    latent_spec_of,
)
from textgym.agents.runs.fingerprints import fingerprint
from textgym.agents.runs.settings import is_json, to_json
from textgym.directories import atomic_directory
from textgym.errors import DivergenceError, InputError
from textgym.paths import expand
from textgym.policies.language_model.run_checkpoints import checkpoints_of, read_first_whole
from textgym.run_files import LATENT_AGENT, PREVIOUS
from textgym.saved_fields import SavedFields
from textgym.storage import json_text, read_json
from textgym.tensor_files import read_tensors, tensor_shapes, write_tensors

WEIGHTS = "policy.safetensors"
FORMAT = 1


@dataclass(frozen=True)
class SavedLatentAgent:
    """What `latent_agent.json` holds.

    :param agent: its word.
    :param num_timesteps: texts that it has learned from.
    :param latent_size, observation_size: of its decoder.
    :param decoder: the decoder's directory, absolute; None for an object.
    :param decoder_sha256: of what stood there.
    :param settings: `latent_limit`, `decoding` and `prior_coef`, where they were given.
    :param policy_kwargs: of the stock policy (JSON values).
    """

    agent: str
    num_timesteps: int
    latent_size: int
    observation_size: int
    decoder: str | None = None
    decoder_sha256: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)


def save_latent_agent(
    agent: BaseAlgorithm,
    directory: str | Path,
    *,
    word: str,
    decoder: str | None,
    settings: Mapping[str, Any],
) -> None:
    """Write a checkpoint atomically; the one before is kept as `previous` beside it.

    :param word, decoder, settings: as `SavedLatentAgent`'s.
    :raises DivergenceError: for weights that are not finite; the checkpoint before stays.
    :raises StorageError: if it cannot be written.
    """
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in agent.policy.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DivergenceError(
                f"agent {word!r}: its weights {name!r} are not finite, so nothing of it is saved: "
                "take a smaller learning_rate"
            )
    kept = agent.policy_kwargs.items()
    policy_kwargs = {k: to_json(v) for k, v in kept if not k.startswith("optimizer")}
    saved = SavedLatentAgent(
        word,
        agent.num_timesteps,
        latent_size=_size(agent.action_space),
        observation_size=_size(agent.observation_space),
        decoder=decoder,
        decoder_sha256=None if decoder is None else fingerprint(decoder),
        settings=dict(settings),
        policy_kwargs={k: v for k, v in policy_kwargs.items() if is_json(v)},
    )
    with atomic_directory(expand(directory), keep_old_as=PREVIOUS) as staging:
        text = json_text({"format": FORMAT, **asdict(saved)}, indent=2) + "\n"
        (staging / LATENT_AGENT).write_text(text, encoding="utf-8")
        write_tensors(tensors, staging / WEIGHTS)


def holds_latent_agent(directory: str | Path) -> bool:
    """Whether a directory is such a checkpoint, or a run that has one."""
    return bool(checkpoints_of(directory, LATENT_AGENT))


def read_latent_agent(directory: str | Path) -> tuple[SavedLatentAgent, dict[str, torch.Tensor]]:
    """What a checkpoint, or the last one of a run, holds: its record and the policy's weights.

    :raises InputError: naming the file and what is wrong with it.
    """
    places = checkpoints_of(directory, LATENT_AGENT)
    if not places:
        raise InputError(f"{directory}: holds no agent with latent actions ({LATENT_AGENT})")
    return read_first_whole(places, _read, must_have_manifest=True)


def trained_decoder(saved: SavedLatentAgent, path: object) -> str:
    """The directory of the decoder that an agent was trained with.

    :param path: of the checkpoint, for errors.
    :raises InputError: where it names none, or something else stands there now: a checkpoint
        chooses no files to read.
    """
    if saved.decoder is None:
        raise InputError(f"{path}: was trained with an object as its decoder: give decoder too")
    if fingerprint(saved.decoder) != saved.decoder_sha256:
        raise InputError(
            f"{path}: {saved.decoder} does not hold the decoder that it was trained with: put it "
            "back, or give decoder"
        )
    return saved.decoder


def restored_latent_agent(
    saved: SavedLatentAgent, tensors: Mapping[str, torch.Tensor], env: VecEnv, path: object
) -> BaseAlgorithm:
    """An agent that acts as the one that was saved; it has learned nothing since.

    :param env: with latent actions of the same decoder.
    :param path: of the checkpoint, for errors.
    :raises InputError: where spaces or weights do not fit.
    """
    for name, space in (
        ("latent_size", env.action_space),
        ("observation_size", env.observation_space),
    ):
        if _size(space) != getattr(saved, name):
            raise InputError(
                f"{path}: its decoder has {name} {getattr(saved, name)}, the one given "
                f"{_size(space)}: give the decoder that it was trained with"
            )
    keywords: dict[str, Any] = {"policy_kwargs": saved.policy_kwargs}
    if "buffer_size" in latent_keywords(latent_spec_of(saved.agent)):
        keywords["buffer_size"] = 1000  # nothing is replayed, so it needs no room
    agent = build_latent_agent(saved.agent, env, **keywords)
    expected = {name: tuple(value.shape) for name, value in agent.policy.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise InputError(
                f"{path}: {name!r} has shape {found.get(name)}, but the policy of "
                f"{saved.agent!r} calls for {expected.get(name)}"
            )
    agent.policy.load_state_dict(dict(tensors))
    agent.num_timesteps = saved.num_timesteps
    return agent


def _size(space: Any) -> int:
    return int(space.shape[0])


def _read(directory: Path) -> tuple[SavedLatentAgent, dict[str, torch.Tensor]]:
    file = directory / LATENT_AGENT
    fields = SavedFields(read_json(file), file)
    if fields.whole("format") != FORMAT:
        raise InputError(f"{file}: of another version of textgym; read it with that one")
    saved = SavedLatentAgent(
        agent=fields.text("agent"),
        num_timesteps=fields.whole("num_timesteps"),
        latent_size=fields.whole("latent_size", 1, 10**6),
        observation_size=fields.whole("observation_size", 1, 10**6),
        decoder=fields.text("decoder") if fields.has("decoder") else None,
        decoder_sha256=fields.text("decoder_sha256") if fields.has("decoder_sha256") else None,
        settings=fields.table("settings").content,
        policy_kwargs=_numbers_only(fields.table("policy_kwargs")),
    )
    tensor_shapes(directory / WEIGHTS)
    tensors = read_tensors(directory / WEIGHTS)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{directory / WEIGHTS}: {name!r} is not finite; take another one")
    return saved, tensors


def _numbers_only(fields: SavedFields) -> dict[str, Any]:
    """Keywords of a policy, which a file may give as numbers only.

    :raises InputError: naming the first that holds a text.
    """
    for name, value in fields.content.items():
        if any(isinstance(leaf, str) for leaf in _leaves(value)):
            raise fields.error(name, "numbers")
    return fields.content


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]
