"""The state of an agent's environment, layer by layer: what SB3's wrappers keep, and the rows.

Stable-Baselines3's own layers have no states that are data, so what they keep is read and set here.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from textgym.agents.rollouts.recording_vec_env import RecordingVecEnv, layers
from textgym.agents.rollouts.split_rewards import DenseRewards
from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.saved_rows import DIGESTS
from textgym.errors import InputError
from textgym.saved_fields import SavedFields
from textgym.states import NoStateError, load_state_of, state_of


def environment_state(env: VecEnv) -> list[dict[str, Any]]:
    """The state of each layer, from the outside in.

    :raises NoStateError: naming the first layer that has none.
    """
    states = []
    for layer in layers(env):
        take, _ = _access(layer)
        states.append({"layer": _name(layer), "state": take(layer)})
    return states


def load_environment_state(env: VecEnv, state: Any) -> list[str]:
    """Go on from a state of `environment_state`, taken of the same layers.

    :return: what has another state than it takes (a reward, a function), in words.
    :raises InputError: if it is none.
    """
    where = "state of the environment"
    found = layers(env)
    if not isinstance(state, list) or len(state) != len(found):
        raise InputError(f"{where}: expected a state for each of {len(found)} layers")
    fields = [SavedFields(part, where) for part in state]
    for layer, part in zip(found, fields, strict=True):
        if part.text("layer") != _name(layer):
            raise InputError(f"{where}: has a {part.text('layer')}, but here is a {_name(layer)}")
    differences: list[str] = []
    for layer, part in zip(reversed(found), reversed(fields), strict=True):
        _, load = _access(layer)
        differences += load(layer, part.value("state")) or ()
    return differences


def environment_differences(env: VecEnv, state: Any) -> list[str]:
    """What is not as it was when the state was taken, in words; empty if everything is.

    :raises InputError: if it is no state of an environment.
    """
    if isinstance(state, str):
        return [state]  # why there is none
    where = "state of the environment"
    if not isinstance(state, list) or not state:
        raise InputError(f"{where}: expected its layers")
    parts = [SavedFields(part, where) for part in state]
    then, now = [part.text("layer") for part in parts], [_name(layer) for layer in layers(env)]
    if then != now:
        return [f"the environment's layers were {', '.join(then)}, are {', '.join(now)}"]
    inner = env.unwrapped
    if not isinstance(inner, TextVecEnv):
        return []
    rows = parts[-1].table("state").table("vector_env")
    before, after = rows.table("summary").content, inner.vector_env.summary
    return [
        f"the environment has other {name}"
        if name in DIGESTS
        else f"the environment's {name} was {before.get(name)!r:.40}, is {value!r:.40}"
        for name, value in after.items()
        if before.get(name) != value
    ]


def _name(layer: VecEnv) -> str:
    """What a checkpoint calls a layer: that which hears the episodes is a monitor too."""
    return "VecMonitor" if isinstance(layer, RecordingVecEnv) else type(layer).__name__


def _access(layer: VecEnv) -> tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]:
    """How a layer's state is taken and set.

    :raises NoStateError: if nobody knows.
    """
    if isinstance(layer, RecordingVecEnv) and layer.is_monitored:
        return (lambda _: None), (lambda _, state: None)
    if isinstance(layer, VecMonitor):
        return _monitor_state, _load_monitor_state
    if type(layer) is VecNormalize:
        return _normalize_state, _load_normalize_state
    if type(layer) is DenseRewards:
        return (lambda _: None), (lambda _, state: None)
    if isinstance(layer, TextVecEnv):
        return TextVecEnv.state_dict, TextVecEnv.load_state_dict
    if hasattr(type(layer), "load_state_dict"):
        # Asked of the class: a wrapper passes on what the layers inside it have.
        name = _name(layer)
        return (lambda own: state_of(own, name)), lambda own, state: load_state_of(own, state, name)
    raise NoStateError(f"the environment has a {_name(layer)}, which keeps no state (state_dict)")


def _monitor_state(layer: VecMonitor) -> dict[str, Any]:
    return {
        "returns": layer.episode_returns.copy(),
        "lengths": layer.episode_lengths.copy(),
        "count": int(layer.episode_count),
    }


def _load_monitor_state(layer: VecMonitor, state: Any) -> None:
    fields = SavedFields(state, "state of VecMonitor")
    shape = (layer.num_envs,)
    returns = fields.array("returns", "float32", shape)
    lengths = fields.array("lengths", "int32", shape, low=0)
    layer.episode_count = fields.whole("count")
    layer.episode_returns, layer.episode_lengths = returns.copy(), lengths.copy()


def _normalize_state(layer: VecNormalize) -> dict[str, Any]:
    if layer.norm_obs:
        raise NoStateError("the environment normalizes observations, whose state is not kept")
    return {"rewards": _running_state(layer.ret_rms), "returns": np.array(layer.returns)}


def _load_normalize_state(layer: VecNormalize, state: Any) -> None:
    fields = SavedFields(state, "state of VecNormalize")
    returns = fields.array("returns", "float64", (layer.num_envs,))
    rewards = fields.table("rewards")
    mean, var = (rewards.array(name, "float64", ()) for name in ("mean", "var"))
    count = rewards.number("count")
    layer.ret_rms.mean, layer.ret_rms.var, layer.ret_rms.count = mean.copy(), var.copy(), count
    layer.returns = returns.copy()


def _running_state(statistics: RunningMeanStd) -> dict[str, Any]:
    return {
        "mean": np.asarray(statistics.mean, dtype=np.float64),
        "var": np.asarray(statistics.var, dtype=np.float64),
        "count": float(statistics.count),
    }
