"""Everything that a run depends on beside weights, optimizer and settings, at one moment.

The moment lies between an update and the next rollout, where the caches are empty and no score is
waited for. From there a run goes on in another process as if it had not been interrupted.
"""

import random
from collections import deque
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm
from textgym.agents.rollouts.environment_state import (
    environment_differences,
    environment_state,
    load_environment_state,
)
from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.runs.recorder_state import load_recorder_state, recorder_state
from textgym.agents.runs.recording import recorder_of
from textgym.errors import InputError
from textgym.policies.sb3.generators import generators_state, load_generators_state
from textgym.policies.sb3.text_policy import TextPolicy
from textgym.saved_fields import SavedFields
from textgym.states import NoStateError, generator_state, load_generator_state

# SB3's counters beside `num_timesteps` and `_n_updates`; not every algorithm has all of them.
_COUNTERS = ("_episode_num", "_n_calls")
_FRACTIONS = ("_current_progress_remaining", "exploration_rate")


def training_state(agent: BaseAlgorithm) -> dict[str, Any]:
    """What `load_training_state` goes on from; taking it changes nothing.

    Where the environment has no state that a checkpoint can hold, the reason stands in its place.
    """
    recorder = recorder_of(agent)
    last_obs, starts = agent._last_obs, agent._last_episode_starts
    try:
        environment: Any = None if agent.env is None else environment_state(agent.env)
    except NoStateError as error:
        environment = str(error)
    return {
        "counters": {name: int(getattr(agent, name)) for name in _COUNTERS if hasattr(agent, name)},
        "fractions": {
            name: float(getattr(agent, name)) for name in _FRACTIONS if hasattr(agent, name)
        },
        "last_obs": None if last_obs is None else np.array(last_obs),
        "last_episode_starts": None if starts is None else np.array(starts, dtype=bool),
        "episodes": _episodes_state(agent.ep_info_buffer),
        "successes": None
        if agent.ep_success_buffer is None
        else np.array(agent.ep_success_buffer, dtype=np.float64),
        "environment": environment,
        "rollout": _rollout_state(agent),
        "policy": _generators_state(agent),
        "actions": _space_state(agent),
        "recorder": None if recorder is None else recorder_state(recorder),
        "globals": _globals_state(),
    }


def load_training_state(agent: BaseAlgorithm, state: Any, *, given: Collection[str]) -> list[str]:
    """Go on from a state of `training_state`.

    :param given: keywords that the agent was built with instead of the saved ones: "seed" draws
        anew. Where the environment is another one, its episodes begin anew.
    :return: what is not as it was, in words; empty where going on is exact.
    :raises InputError: if it is no such state, or belongs to another agent.
    """
    fields = SavedFields(state, "state of the training")
    is_seeded = "seed" in given
    counters, fractions = fields.table("counters"), fields.table("fractions")
    for name in _COUNTERS:
        if hasattr(agent, name) and counters.has(name):
            setattr(agent, name, counters.whole(name))
    for name in _FRACTIONS:
        if hasattr(agent, name) and fractions.has(name):
            setattr(agent, name, fractions.number(name))
    _load_episodes(agent, fields)
    recorder = recorder_of(agent)
    if recorder is not None and fields.has("recorder"):
        load_recorder_state(recorder, fields.value("recorder"))
    assert agent.env is not None
    differences = environment_differences(agent.env, fields.value("environment"))
    goes_on = not differences and not is_seeded
    if goes_on:
        differences = load_environment_state(agent.env, fields.value("environment"))
        _load_last_rows(agent, fields)
    _load_rollout_state(agent, fields.value("rollout"), goes_on=goes_on)
    if not is_seeded:
        if _draws_tokens(agent):
            load_generators_state(agent.policy, fields.value("policy"))  # type: ignore[arg-type]
        if fields.has("actions"):
            load_generator_state(agent.action_space.np_random, fields.value("actions"), fields.path)
        _load_globals(fields.table("globals"))
    return differences + ["another seed"] * is_seeded


def _draws_tokens(agent: BaseAlgorithm) -> bool:
    """Whether the policy has generators of its own; a stock one draws from torch's global one."""
    return isinstance(agent.policy, TextPolicy)


def _generators_state(agent: BaseAlgorithm) -> dict[str, Any] | None:
    policy = agent.policy
    return generators_state(policy) if isinstance(policy, TextPolicy) else None


def _load_last_rows(agent: BaseAlgorithm, fields: SavedFields) -> None:
    """What the next rollout begins with; nothing where none has begun yet."""
    assert agent.env is not None
    if not fields.has("last_obs"):
        return
    width = agent.observation_space.shape[0]  # type: ignore[index]
    n = agent.env.num_envs
    if _draws_tokens(agent):
        high = int(agent.action_space.n) - 1  # type: ignore[attr-defined]
        agent._last_obs = fields.array("last_obs", "int64", (n, width), low=0, high=high).copy()
    else:
        agent._last_obs = fields.array("last_obs", "float32", (n, width)).copy()
    agent._last_episode_starts = fields.array("last_episode_starts", "bool", (n,)).copy()
    agent._last_original_obs = None
    if agent.get_vec_normalize_env() is not None:
        agent._last_original_obs = agent._last_obs


def _episodes_state(episodes: Any) -> dict[str, Any] | None:
    """SB3's last episodes; the numbers keep their types, over which it averages."""
    if episodes is None:
        return None
    return {
        "returns": np.array([episode["r"] for episode in episodes]).astype(_float_of(episodes)),
        "lengths": np.array([episode["l"] for episode in episodes], dtype=np.int64),
        # ARS counts episodes without a monitor, which alone knows the time.
        "times": np.array([episode.get("t", 0.0) for episode in episodes], dtype=np.float64),
    }


def _float_of(episodes: Any) -> str:
    is_single = all(isinstance(episode["r"], np.float32) for episode in episodes)
    return "float32" if is_single and len(episodes) else "float64"


def _load_episodes(agent: BaseAlgorithm, fields: SavedFields) -> None:
    window = agent._stats_window_size
    if fields.has("episodes"):
        table = fields.table("episodes")
        returns = table.value("returns")
        dtype = "float32" if getattr(returns, "dtype", None) == np.float32 else "float64"
        returns = table.array("returns", dtype, (None,))
        lengths = table.array("lengths", "int64", (len(returns),))
        times = table.array("times", "float64", (len(returns),))
        agent.ep_info_buffer = deque(
            (
                {"r": reward, "l": length, "t": float(at)}
                for reward, length, at in zip(returns, lengths, times, strict=True)
            ),
            maxlen=window,
        )
    if fields.has("successes"):
        successes = fields.array("successes", "float64", (None,))
        agent.ep_success_buffer = deque(successes.tolist(), maxlen=window)


def _rollout_state(agent: BaseAlgorithm) -> Any:
    """What the agent's buffer keeps from one rollout to the next."""
    if isinstance(agent, CriticFreeAlgorithm):
        return agent.rollout_state()
    buffer = _buffer_of(agent)
    return None if buffer is None else buffer.state_dict()


def _load_rollout_state(agent: BaseAlgorithm, state: Any, *, goes_on: bool) -> None:
    buffer = _buffer_of(agent)
    if isinstance(buffer, EpisodeReplayBuffer):  # what is finished is worth keeping in any case
        buffer.load_state_dict(state, goes_on=goes_on)
    elif not goes_on:
        return
    elif isinstance(agent, CriticFreeAlgorithm):
        agent.load_rollout_state(state)
    elif buffer is not None:
        buffer.load_state_dict(state)


def _buffer_of(agent: BaseAlgorithm) -> EpisodeReplayBuffer | EpisodeRolloutBuffer | None:
    buffer = getattr(agent, "rollout_buffer", None) or getattr(agent, "replay_buffer", None)
    is_ours = isinstance(buffer, EpisodeReplayBuffer | EpisodeRolloutBuffer)
    return buffer if is_ours else None


def _space_state(agent: BaseAlgorithm) -> dict[str, Any] | None:
    """The generator of random actions, which SB3's ε draws from; None if nobody made it yet."""
    generator = agent.action_space._np_random
    return None if generator is None else generator_state(generator)


def _globals_state() -> dict[str, Any]:
    """The global generators of Python, NumPy and torch, from which SB3's parts draw."""
    version, numbers, gauss = random.getstate()
    legacy: Any = np.random.get_state()
    return {
        "python": {"version": version, "numbers": np.array(numbers, np.int64), "gauss": gauss},
        "numpy": {
            "key": legacy[1].astype(np.int64),
            "position": int(legacy[2]),
            "has_gauss": int(legacy[3]),
            "gauss": float(legacy[4]),
        },
        "torch": torch.get_rng_state().numpy().copy(),
        "cuda": _cuda_states(),
    }


def _cuda_states() -> list[np.ndarray]:
    """Those of the graphics cards that are in use, on which torch has further generators."""
    cuda: Any = torch.cuda
    return [s.numpy().copy() for s in cuda.get_rng_state_all()] if cuda.is_initialized() else []


def _load_globals(fields: SavedFields) -> None:
    python, legacy = fields.table("python"), fields.table("numpy")
    numbers = python.array("numbers", "int64", (625,), low=0, high=2**32 - 1)
    key = legacy.array("key", "int64", (624,), low=0, high=2**32 - 1)
    gauss = python.number("gauss") if python.has("gauss") else None
    normal = legacy.whole("has_gauss", 0, 1), legacy.number("gauss")
    try:
        random.setstate((python.whole("version"), tuple(numbers.tolist()), gauss))
        position = legacy.whole("position", 0, 624)
        np.random.set_state(("MT19937", key.astype(np.uint32), position, *normal))
        torch.set_rng_state(torch.from_numpy(fields.array("torch", "uint8", (None,)).copy()))
        saved = fields.items("cuda")
        if saved and torch.cuda.is_available() and len(saved) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([torch.from_numpy(np.array(s, np.uint8)) for s in saved])
    except (ValueError, TypeError, RuntimeError, OverflowError, IndexError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{fields.path}: not the states of generators ({reason:.80})") from None
