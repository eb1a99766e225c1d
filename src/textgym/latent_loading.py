"""`textgym.load_agent` of an agent with latent actions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from textgym.agents.building.environment_record import environment_of
from textgym.agents.building.latent_agents import build_latent_agent
from textgym.agents.building.latent_checkpoint import (
    LatentCheckpoint,
    LatentOrigin,
    holds_latent_agent,
    read_latent_agent,
    restore_latent_agent,
    saved_keywords,
    trained_decoder,
)
from textgym.agents.building.named_files import check_named_files
from textgym.agents_by_name import make_agent
from textgym.errors import InputError
from textgym.latent_decoders import LatentDecoder
from textgym.rewards import Reward
from textgym.saved_names import check_given_again, check_names_no_code
from textgym.task_arguments import check_unused

__all__ = ["holds_latent_agent", "load_latent_agent"]


def load_latent_agent(
    directory: str | Path,
    *,
    env: Any = None,
    reward: Reward | str | Path | None = None,
    n_envs: int | None = None,
    seed: int | None = None,
    env_kwargs: dict[str, Any] | None = None,
    decoder: LatentDecoder | str | Path | None = None,
    **keywords: Any,
) -> BaseAlgorithm:
    """Bring an agent back with its weights, its optimizers, its replay buffer and what it finds.

    It acts as the one that was saved, and `learn(..., reset_num_timesteps=False)` counts on from
    there; prompts and noise are drawn anew, and a replay buffer of another shape begins empty.

    The parameters are those of `textgym.load_agent`.

    :raises InputError: where there is no such agent, or its decoder is not there any more.
    """
    checkpoint = read_latent_agent(directory)
    saved = checkpoint.saved
    named = {"env": env, "reward": reward, "n_envs": n_envs, "seed": seed}
    given = {*keywords, *(env_kwargs or {}), *(k for k, v in named.items() if v is not None)}
    check_given_again(directory, saved.not_saved, given)
    settled = {**saved_keywords(saved, directory, given), **keywords}
    seed = saved.seed if seed is None else seed
    if env is not None:
        check_unused(env, reward=reward, env_kwargs=env_kwargs, n_envs=n_envs, decoder=decoder)
        if not isinstance(env, VecEnv) or not isinstance(env.action_space, spaces.Box):
            raise InputError(
                "env must be what textgym.make_vec(ID, n_envs, decoder=...) gives, got "
                f"{type(env).__name__} without latent actions"
            )
        agent = build_latent_agent(saved.agent, env, seed=seed, **settled)
        environment = environment_of(env.get_attr("task")[0])
        environment["not_saved"] = sorted({*environment["not_saved"], "env"})
        agent.latent_origin = LatentOrigin(  # type: ignore[attr-defined]
            saved.agent, environment, None, env.num_envs, seed, settled
        )
    else:
        agent = make_agent(
            saved.agent,
            n_envs=saved.n_envs if n_envs is None else n_envs,
            seed=seed,
            decoder=trained_decoder(saved, directory) if decoder is None else decoder,
            **_environment(checkpoint, given, reward, env_kwargs),
            **settled,
        )
    restore_latent_agent(agent, checkpoint)
    return agent


def _environment(
    checkpoint: LatentCheckpoint,
    given: set[str],
    reward: Reward | str | Path | None,
    env_kwargs: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The arguments of `make_agent` that say where an agent plays.

    :param given: what the caller passed himself, and so trusts.
    :raises InputError: for a checkpoint that does not say it, or that names code or files of its
        own choice.
    """
    record, directory = checkpoint.saved.environment, Path(str(checkpoint.path))
    if record is None:
        raise InputError(
            f"{directory}: was saved by an earlier version, which kept no environment: pass "
            "env=textgym.make_vec(ID, n_envs, decoder=...)"
        )
    check_given_again(directory, record["not_saved"], given)
    check_names_no_code(directory, record, given)
    state = {"environment": record, "settings": {"keywords": {}}, "files": checkpoint.saved.files}
    check_named_files(directory, state, given)
    fields = {**record["env_kwargs"], **(env_kwargs or {})}
    if reward is not None:
        fields.pop("reward", None)
    own = None if "reward" in given else record["reward"]
    return {
        "env": record["id"],
        "reward": own if reward is None else reward,
        "env_kwargs": fields or None,
    }
