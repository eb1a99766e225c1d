"""The checkpoint of an agent with latent actions: data, from which nothing is imported or run.

`latent_agent.json` says which word it is, on which environment it plays and with which decoder,
`policy.safetensors` holds the weights of its stock policy, which is enough to act, and
`training.safetensors` what it goes on training from: see `latent_state`,
and for a run `textgym.latent_resuming`.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.building.latent_agents import (
    build_latent_agent,
    latent_keywords,
    latent_spec_of,
    takes_words,
)
from textgym.agents.building.latent_state import learned_state, load_learned_state
from textgym.agents.building.named_files import named_files
from textgym.agents.runs.fingerprints import NOTHING, fingerprint
from textgym.agents.runs.settings import is_json, to_json
from textgym.directories import atomic_directory
from textgym.envs.latent_rows import OF_LATENTS
from textgym.errors import DivergenceError, InputError, unknown_name
from textgym.optimization import join_state, split_state
from textgym.paths import expand
from textgym.policies.language_model.run_checkpoints import checkpoints_of, read_first_whole
from textgym.run_files import LATENT_AGENT
from textgym.saved_fields import SavedFields
from textgym.storage import json_text, read_json
from textgym.tensor_files import read_tensors, tensor_shapes, write_tensors

WEIGHTS, TRAINING = "policy.safetensors", "training.safetensors"
FORMAT = 1
_ACTIVATIONS = frozenset(torch.nn.modules.activation.__all__)
_NEVER_KEPT = ("tensorboard_log",)  # where something is written, which no checkpoint says
_OF_THE_POLICY = ("use_sde",)  # keywords of an algorithm that give its policy other weights


@dataclass(frozen=True)
class LatentOrigin:
    """What an agent with latent actions was made from; it is the agent's `latent_origin`.

    :param agent: its word.
    :param environment: as `environment_record` gives it.
    :param decoder: the decoder's directory, absolute; None for an object.
    :param n_envs, seed: as `make_agent`'s.
    :param keywords: of the algorithm, that were given.
    """

    agent: str
    environment: Mapping[str, Any]
    decoder: str | None
    n_envs: int
    seed: int | None
    keywords: Mapping[str, Any]


@dataclass(frozen=True)
class SavedLatentAgent:
    """What `latent_agent.json` holds.

    :param agent: its word.
    :param num_timesteps: texts that it has learned from.
    :param latent_size, observation_size: of its decoder.
    :param decoder: the decoder's directory, absolute; None for an object.
    :param decoder_sha256: of what stood there.
    :param settings: `latent_limit`, `decoding` and `prior_coef`, where they were given.
    :param policy_kwargs: of the stock policy (JSON values; the activation by its name in torch.nn).
    :param environment: as `environment_record` gives it; None in checkpoints of an earlier version,
        which have none of the rest either.
    :param n_envs, seed: as `make_agent`'s.
    :param keywords: of the algorithm, that were given (JSON values).
    :param not_saved: the names of those that were objects, which are asked for again.
    :param files: with the SHA-256 of their contents: see `named_files`.
    """

    agent: str
    num_timesteps: int
    latent_size: int
    observation_size: int
    decoder: str | None = None
    decoder_sha256: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    policy_kwargs: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] | None = None
    n_envs: int = 1
    seed: int | None = None
    keywords: dict[str, Any] = field(default_factory=dict)
    not_saved: list[str] = field(default_factory=list)
    files: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LatentCheckpoint:
    """A checkpoint as it was read.

    :param saved: what its JSON file says.
    :param tensors: weights of the policy, by name.
    :param training: the nest of `learned_state`; None in checkpoints of an earlier version.
    :param path: as it was given, for errors.
    """

    saved: SavedLatentAgent
    tensors: Mapping[str, torch.Tensor]
    training: Any
    path: object


def save_latent_agent(
    agent: BaseAlgorithm,
    directory: str | Path,
    *,
    keep_old_as: str | None = None,
    run: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint of an agent that has a `latent_origin`, atomically.

    :param run: what its run goes on from exactly: tensors and JSON values.
    :param keep_old_as: the name beside it under which the old directory is kept.
    :raises DivergenceError: for weights that are not finite; the checkpoint before stays.
    :raises StorageError: if it cannot be written.
    """
    origin: LatentOrigin = agent.latent_origin  # type: ignore[attr-defined]
    tensors = {
        name: tensor.detach().cpu().clone().contiguous()
        for name, tensor in agent.policy.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise DivergenceError(
                f"agent {origin.agent!r}: its weights {name!r} are not finite, so nothing of it "
                "is saved: take a smaller learning_rate"
            )
    kept = agent.policy_kwargs.items()
    policy_kwargs = _named({k: v for k, v in kept if not k.startswith("optimizer")})
    given = {k: to_json(v) for k, v in origin.keywords.items() if k not in _NEVER_KEPT}
    if isinstance(given.get("policy_kwargs"), dict):
        given["policy_kwargs"] = _named(given["policy_kwargs"])
    lost = sorted(name for name, value in given.items() if not is_json(value))
    fields = origin.environment["env_kwargs"]
    saved = SavedLatentAgent(
        origin.agent,
        agent.num_timesteps,
        latent_size=_size(agent.action_space),
        observation_size=_size(agent.observation_space),
        decoder=origin.decoder,
        decoder_sha256=None if origin.decoder is None else fingerprint(origin.decoder),
        settings={name: fields[name] for name in OF_LATENTS if name in fields},
        policy_kwargs={k: v for k, v in policy_kwargs.items() if is_json(v)},
        environment=dict(origin.environment),
        n_envs=origin.n_envs,
        seed=origin.seed,
        keywords={k: v for k, v in given.items() if k not in (*lost, "policy_kwargs")},
        not_saved=lost,
        files=named_files(origin.environment, {}),
    )
    state = {**learned_state(agent), **({} if run is None else {"run": run})}
    of_training, nest = split_state(state, "training")
    of_training = {name: tensor.cpu().clone() for name, tensor in of_training.items()}
    with atomic_directory(expand(directory), keep_old_as=keep_old_as) as staging:
        content = {"format": FORMAT, **asdict(saved), "training": nest}
        (staging / LATENT_AGENT).write_text(json_text(content, indent=2) + "\n", encoding="utf-8")
        write_tensors(tensors, staging / WEIGHTS)
        write_tensors(of_training, staging / TRAINING)


def holds_latent_agent(directory: str | Path) -> bool:
    """Whether a directory is such a checkpoint, or a run that has one."""
    return bool(checkpoints_of(directory, LATENT_AGENT))


def read_latent_agent(directory: str | Path) -> LatentCheckpoint:
    """What a checkpoint, or the last one of a run, holds.

    :raises InputError: naming the file and what is wrong with it.
    """
    places = checkpoints_of(directory, LATENT_AGENT)
    if not places:
        raise InputError(f"{directory}: holds no agent with latent actions ({LATENT_AGENT})")
    saved, tensors, training = read_first_whole(places, _read, must_have_manifest=True)
    return LatentCheckpoint(saved, tensors, training, directory)


def trained_decoder(saved: SavedLatentAgent, path: object) -> str:
    """The directory of the decoder that an agent was trained with.

    :param path: of the checkpoint, for errors.
    :raises InputError: where it names none, or nothing or something else stands there now: a
        checkpoint chooses no files to read.
    """
    if saved.decoder is None:
        raise InputError(f"{path}: was trained with an object as its decoder: give decoder too")
    found = fingerprint(saved.decoder)
    if found == NOTHING:
        raise InputError(
            f"{path}: its decoder is not at {saved.decoder} any more: put it back, or give decoder"
        )
    if found != saved.decoder_sha256:
        raise InputError(
            f"{path}: {saved.decoder} does not hold the decoder that it was trained with: put it "
            "back, or give decoder"
        )
    return saved.decoder


def saved_keywords(
    saved: SavedLatentAgent, path: object, given: Collection[str] = ()
) -> dict[str, Any]:
    """The keywords of the algorithm that a checkpoint brings back.

    :param path: of the checkpoint, for errors.
    :param given: those that the caller passes himself instead.
    :raises InputError: for one that is neither a number nor, where words are expected, a word.
    """
    known = latent_keywords(latent_spec_of(saved.agent))
    kept = {name: value for name, value in saved.keywords.items() if name not in given}
    for name, value in kept.items():
        if name not in known:
            raise unknown_name(f"{path}: keyword of agent {saved.agent!r}", name, known)
        is_unit = name == "train_freq" and isinstance(value, list)
        numbers = [x for x in value if x not in ("step", "episode")] if is_unit else value
        if any(isinstance(leaf, str) for leaf in _leaves(numbers)) and not takes_words(known[name]):
            raise InputError(
                f"{path}: the keyword {name!r} must be a number here, got {value!r:.60}: pass "
                f"{name}=... yourself if you want it"
            )
    freq = kept.get("train_freq")
    units = {"train_freq": tuple(freq)} if isinstance(freq, list) else {}
    return {"policy_kwargs": _unnamed(saved.policy_kwargs), **kept, **units}


def acting_agent(checkpoint: LatentCheckpoint, env: VecEnv) -> BaseAlgorithm:
    """An agent that acts as the one that was saved, and has nothing to go on training from.

    :param env: with latent actions of the same decoder.
    :raises InputError: where spaces or weights do not fit, or the policy was made with an object.
    """
    saved = checkpoint.saved
    if "policy_kwargs" in saved.not_saved:
        raise InputError(
            f"{checkpoint.path}: the agent was made with an object among its policy_kwargs, which "
            "a checkpoint does not hold: bring it back with load_agent(..., policy_kwargs=...)"
        )
    kept = saved_keywords(saved, checkpoint.path)
    keywords = {k: kept[k] for k in ("policy_kwargs", *_OF_THE_POLICY) if k in kept}
    if "buffer_size" in latent_keywords(latent_spec_of(saved.agent)):
        keywords["buffer_size"] = 1000  # nothing is replayed, so it needs no room
    agent = build_latent_agent(saved.agent, env, **keywords)
    restore_latent_agent(agent, replace(checkpoint, training=None))
    return agent


def restore_latent_agent(agent: BaseAlgorithm, checkpoint: LatentCheckpoint) -> None:
    """Give an agent that was built from a checkpoint's words and keywords what that one learned.

    :raises InputError: where spaces, weights or optimizers do not fit.
    """
    saved, tensors, path = checkpoint.saved, checkpoint.tensors, checkpoint.path
    for name, space in (
        ("latent_size", agent.action_space),
        ("observation_size", agent.observation_space),
    ):
        if not isinstance(space, spaces.Box) or _size(space) != getattr(saved, name):
            found = _size(space) if isinstance(space, spaces.Box) else space
            raise InputError(
                f"{path}: its decoder has {name} {getattr(saved, name)}, the one given {found}: "
                "give the decoder that it was trained with"
            )
    expected = {name: tuple(value.shape) for name, value in agent.policy.state_dict().items()}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise InputError(
                f"{path}: {name!r} has shape {shapes.get(name)}, but the policy of "
                f"{saved.agent!r} calls for {expected.get(name)}"
            )
    agent.policy.load_state_dict(dict(tensors))
    agent.num_timesteps = saved.num_timesteps
    if checkpoint.training is not None:
        load_learned_state(agent, checkpoint.training, path)


def _size(space: Any) -> int:
    return int(space.shape[0])


def _read(directory: Path) -> tuple[SavedLatentAgent, dict[str, torch.Tensor], Any]:
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
        policy_kwargs=_numbers_and_activation(fields.table("policy_kwargs")),
        **(_origin(fields) if fields.has("environment") else {}),
    )
    tensors = _finite_tensors(directory / WEIGHTS)
    training = None
    if fields.has("training"):
        try:
            training = join_state(_finite_tensors(directory / TRAINING), fields.value("training"))
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration, RecursionError):
            raise InputError(f"{file}: damaged state of the training") from None
    return saved, tensors, training


def _origin(fields: SavedFields) -> dict[str, Any]:
    """What the file says of how to make the agent again; checked by type."""
    environment = fields.table("environment")
    environment.text("id")
    environment.texts("not_saved")
    if environment.value("reward") is not None:
        environment.text("reward")
    if "tokenizer" in environment.table("env_kwargs").content:
        raise InputError(f"{fields.path}: names a tokenizer, but its decoder has one: leave it out")
    files = fields.table("files")
    for name in files.content:
        for path in files.table(name).content:
            files.table(name).text(path)
    return {
        "environment": environment.content,
        "n_envs": fields.whole("n_envs", 1, 10**9),
        "seed": fields.whole("seed", 0, 2**32 - 1) if fields.has("seed") else None,
        "keywords": fields.table("keywords").content,
        "not_saved": fields.texts("not_saved"),
        "files": files.content,
    }


def _finite_tensors(file: Path) -> dict[str, torch.Tensor]:
    tensor_shapes(file)
    tensors = read_tensors(file)
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{file}: {name!r} is not finite; take another one")
    return tensors


def _named(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of a policy, with an activation of torch's by its name."""
    named = {key: to_json(value) for key, value in policy_kwargs.items()}
    name = getattr(named.get("activation_fn"), "__name__", None)
    if name in _ACTIVATIONS and named["activation_fn"] is getattr(torch.nn, name):
        named["activation_fn"] = name
    return named


def _unnamed(policy_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords again."""
    activation = policy_kwargs.get("activation_fn")
    found = {} if activation is None else {"activation_fn": getattr(torch.nn, activation)}
    return {**policy_kwargs, **found}


def _numbers_and_activation(fields: SavedFields) -> dict[str, Any]:
    """Keywords of a policy, which a file may give as numbers, and one of torch's activations.

    :raises InputError: naming the first that is something else.
    """
    for name, value in fields.content.items():
        if name == "activation_fn":
            if fields.text(name) not in _ACTIVATIONS:
                raise fields.error(name, "the name of an activation of torch.nn")
        elif any(isinstance(leaf, str) for leaf in _leaves(value)):
            raise fields.error(name, "numbers")
    return fields.content


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    if isinstance(value, list):
        return [leaf for item in value for leaf in _leaves(item)]
    return [value]
