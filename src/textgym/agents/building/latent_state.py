"""What an agent with latent actions goes on training from, beside the weights of its policy.

Stable-Baselines3 says itself which optimizers and variables an algorithm learns with. What it
draws from (the environment's rows, the global generators) a run keeps besides.
"""

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import recursive_getattr
from torch.nn.utils import parameters_to_vector

from textgym.errors import InputError
from textgym.optimization import check_optimizer_state
from textgym.saved_fields import SavedFields

# What comes of a state that belongs to something else.
_NOT_THIS_STATE = (LookupError, RuntimeError, ValueError, TypeError, AttributeError)
_REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def learned_state(agent: BaseAlgorithm) -> dict[str, Any]:
    """A nest of tensors and JSON values that `load_learned_state` goes on from.

    An entropy coefficient that is found by itself (`log_ent_coef`) is among the variables; one that
    was given is a keyword, and is not.
    """
    names, variables = _learning(agent)
    return {
        "n_updates": int(getattr(agent, "_n_updates", 0)),
        "optimizers": {name: recursive_getattr(agent, name).state_dict() for name in names},
        "variables": {name: recursive_getattr(agent, name).detach().cpu() for name in variables},
        "replay": _replay_state(agent),
    }


def load_learned_state(agent: BaseAlgorithm, state: Any, path: object) -> None:
    """Go on from a state of `learned_state`; the policy has its weights already.

    What the agent has not (it was given an entropy coefficient, say) is passed over, and a replay
    buffer of another size, or of another number of rows, begins empty.

    :param path: of the checkpoint, for errors.
    :raises InputError: if it is none, or belongs to another agent.
    """
    fields = SavedFields(state, f"{path}: training")
    agent._n_updates = fields.whole("n_updates")
    optimizers, values = fields.table("optimizers"), fields.table("variables")
    names, variables = _learning(agent)
    for name in names:
        if not optimizers.has(name):
            continue
        try:
            optimizer = recursive_getattr(agent, name)
            check_optimizer_state(optimizer, optimizers.value(name))
            optimizer.load_state_dict(optimizers.value(name))
        except _NOT_THIS_STATE as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: {name} does not fit this agent: {reason:.120}") from None
    for name in variables:
        if values.has(name):
            own, value = recursive_getattr(agent, name), values.value(name)
            if not isinstance(value, torch.Tensor) or value.shape != own.shape:
                raise values.error(name, f"a tensor of shape {tuple(own.shape)}")
            own.data.copy_(value)
    if fields.has("replay"):
        _load_replay(agent, fields.table("replay"))
    if hasattr(agent, "weights"):  # ARS works on a vector of its policy's weights
        agent.weights = parameters_to_vector(agent.policy.parameters()).detach()


def _replay_state(agent: BaseAlgorithm) -> dict[str, Any] | None:
    """What the replay buffer holds; None without one of Stable-Baselines3's plain kind."""
    buffer = getattr(agent, "replay_buffer", None)
    if type(buffer) is not ReplayBuffer or buffer.optimize_memory_usage:
        return None
    filled = buffer.buffer_size if buffer.full else buffer.pos
    return {
        "position": int(buffer.pos),
        "rows": int(buffer.buffer_size),
        **{name: torch.from_numpy(getattr(buffer, name)[:filled]) for name in _REPLAYED},
    }


def _load_replay(agent: BaseAlgorithm, fields: SavedFields) -> None:
    """Fill a replay buffer as it was.

    :raises InputError: for arrays of other shapes or types, or a place that is not in them.
    """
    buffer = getattr(agent, "replay_buffer", None)
    if type(buffer) is not ReplayBuffer or fields.whole("rows", 1) != buffer.buffer_size:
        return
    position = fields.whole("position", 0, buffer.buffer_size - 1)
    arrays: dict[str, np.ndarray] = {}
    for name in _REPLAYED:
        tensor, own = fields.value(name), getattr(buffer, name)
        array = tensor.cpu().numpy() if isinstance(tensor, torch.Tensor) else np.zeros(0)
        filled = len(array) if array.ndim else -1
        if filled not in (position, buffer.buffer_size) or array.dtype != own.dtype:
            raise fields.error(name, f"{own.dtype} of {position:,} or {buffer.buffer_size:,} rows")
        if array.shape[1:] != own.shape[1:]:
            return  # of another number of environments
        arrays[name] = array
    if len({len(array) for array in arrays.values()}) != 1:
        raise InputError(f"{fields.path}: its arrays have different lengths")
    for name, array in arrays.items():
        getattr(buffer, name)[: len(array)] = array
    buffer.pos, buffer.full = position, len(arrays["rewards"]) == buffer.buffer_size


def _learning(agent: BaseAlgorithm) -> tuple[list[str], list[str]]:
    """The names of an agent's optimizers, and of the variables beside its policy that it trains."""
    states, variables = agent._get_torch_save_params()
    trained = [name for name in variables if recursive_getattr(agent, name).requires_grad]
    return [name for name in states if name != "policy"], trained
