"""Optimizers and schedules that every training loop shares."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from textgym.adam_8bit import Adam8bit
from textgym.checks import check_numbers, check_positive
from textgym.errors import InputError
from textgym.float32_muon import Float32Muon, has_slow_bfloat16


def cosine_with_warmup(progress: float, *, warmup: float = 0.05, floor: float = 0.05) -> float:
    """Learning-rate factor: linear from 0 to 1 over `warmup`, then a cosine down to `floor`.

    :param progress: share of the training that is done, 0 to 1 (clipped).
    """
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return progress / warmup
    angle = math.pi * (progress - warmup) / max(1.0 - warmup, 1e-9)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(angle))


class Optimizers:
    """Several torch optimizers that step as one, with one learning-rate factor.

    Muon (Jordan et al. 2024) orthogonalises the update of a matrix, so it takes the hidden weight
    matrices only; embeddings, norms, biases and heads go to AdamW.
    """

    def __init__(self, optimizers: Iterable[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        self._base = [[group["lr"] for group in o.param_groups] for o in self.optimizers]

    def set_learning_rate_factor(self, factor: float) -> None:
        """Set every learning rate to `factor` times its initial value."""
        for optimizer, base in zip(self.optimizers, self._base, strict=True):
            for group, learning_rate in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = factor * learning_rate

    def step(self) -> None:
        """One update from the gradients at hand."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        """The state of each optimizer."""
        return [optimizer.state_dict() for optimizer in self.optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Take up the states of `state_dict`."""
        for optimizer, state in zip(self.optimizers, states, strict=True):
            check_optimizer_state(optimizer, state)
            optimizer.load_state_dict(state)


def check_optimizer_state(optimizer: torch.optim.Optimizer, state: Any) -> None:
    """Raises unless a saved state has the groups, settings and shapes of an optimizer.

    :raises ValueError: saying what is another one.
    """
    if not isinstance(state, dict) or not {"state", "param_groups"} <= state.keys():
        raise ValueError("no state of an optimizer")
    fresh, saved = optimizer.state_dict()["param_groups"], state["param_groups"]
    if not isinstance(saved, list) or len(saved) != len(fresh):
        raise ValueError(f"the optimizer has {len(fresh)} groups of parameters, the state others")
    for made, group in zip(fresh, saved, strict=True):
        if not isinstance(group, dict) or group.get("params") != made["params"]:
            raise ValueError("a group of the optimizer's state has other parameters")
        for name, value in group.items():
            if name != "params" and (name not in made or not _is_setting(value)):
                raise ValueError(f"no setting of the optimizer: {name!s:.40}={value!r:.40}")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not isinstance(state["state"], dict):
        raise ValueError("the optimizer's state is no table")
    for index, moments in state["state"].items():
        if not (isinstance(index, int) and 0 <= index < len(parameters)):
            raise ValueError(f"the optimizer has no parameter {index!r:.40}")
        if isinstance(optimizer, Adam8bit):
            optimizer.check_moments(parameters[index], moments)
            continue
        for name, value in moments.items():
            is_tensor = isinstance(value, Tensor) and value.is_floating_point()
            if is_tensor and value.shape not in ((), parameters[index].shape):
                raise ValueError(f"{name!s:.40} of parameter {index} is of another shape")
            if not is_tensor and not _is_setting(value):
                raise ValueError(f"no moment of an optimizer: {name!s:.40} of parameter {index}")


def _is_setting(value: Any) -> bool:
    """Whether it is None, a truth value, a finite number or a few of these."""
    if isinstance(value, tuple | list):
        return all(map(_is_setting, value))
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def build_optimizer(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    learning_rate: float = 3e-3,
    optimizer: str = "muon",
    muon_learning_rate: float = 0.02,
    weight_decay: float = 0.0,
) -> Optimizers:
    """AdamW, or Muon on the block matrices with AdamW on the rest.

    :param named_parameters: as `module.named_parameters()` gives them; matrices whose name contains
        `.layers.` count as block matrices.
    :param optimizer: `"muon"`, `"adamw"`, or `"adamw_8bit"`: AdamW whose two moments take 2 bytes
        a weight instead of 8, of the library bitsandbytes; slow on a processor.
    :param muon_learning_rate: for the block matrices.
    :raises InputError: for any other `optimizer`, or a rate that is not positive.
    """
    if optimizer not in ("muon", "adamw", "adamw_8bit"):
        raise InputError(f"optimizer must be 'muon', 'adamw' or 'adamw_8bit', got {optimizer!r}")
    check_positive("learning_rate", learning_rate)
    check_numbers(
        {
            "learning_rate": learning_rate,
            "muon_learning_rate": muon_learning_rate,
            "weight_decay": weight_decay,
        }
    )
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        is_matrix = optimizer == "muon" and parameter.ndim == 2 and ".layers." in f".{name}"
        (matrices if is_matrix else others).append(parameter)
    parts: list[torch.optim.Optimizer] = []
    if others:
        adam: dict[str, Any] = {"lr": learning_rate, "betas": (0.9, 0.95)}
        adam["weight_decay"] = weight_decay
        if optimizer == "adamw_8bit":
            parts.append(Adam8bit(others, **adam))
        else:
            parts.append(torch.optim.AdamW(others, fused=True, **adam))
    if matrices:
        muon = Float32Muon if has_slow_bfloat16(matrices[0].device) else torch.optim.Muon
        parts.append(muon(matrices, lr=muon_learning_rate, weight_decay=weight_decay))
    return Optimizers(parts)


def muon_rate(optimizer: str, given: float | None, default: float) -> float | None:
    """The rate of the block matrices as a verb uses and records it; None with another optimizer.

    :raises InputError: for a rate that nothing would use.
    """
    check_numbers({"muon_learning_rate": given})
    if optimizer == "muon":
        return default if given is None else given
    if given is not None:
        raise InputError(
            f"muon_learning_rate={given!r} goes with optimizer 'muon', not {optimizer!r}: leave "
            "one of them out"
        )
    return None


def split_state(state: Any, prefix: str = "") -> tuple[dict[str, Tensor], Any]:
    """Separate the tensors of a nested state from the rest, which JSON can hold.

    :return: tensors by path, and the same nest with each tensor replaced by `{"tensor": path}`.
    """
    tensors: dict[str, Tensor] = {}

    def walk(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            while path in tensors:  # the keys "a.b" and "a" → "b" read the same
                path += "'"
            tensors[path] = value.detach().contiguous()
            return {"tensor": path}
        if isinstance(value, dict):
            keys = [
                (("int", k) if isinstance(k, int) else ("str", str(k)), v) for k, v in value.items()
            ]
            return {"dict": [[kind, k, walk(v, f"{path}.{k}")] for (kind, k), v in keys]}
        if isinstance(value, list | tuple):
            items = [walk(v, f"{path}.{i}") for i, v in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        return {"value": value}

    return tensors, walk(state, prefix)


def join_state(tensors: dict[str, Tensor], nest: Any) -> Any:
    """The inverse of `split_state`."""
    kind, content = next(iter(nest.items()))
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {(int(k) if t == "int" else k): join_state(tensors, v) for t, k, v in content}
    if kind in ("list", "tuple"):
        items = [join_state(tensors, v) for v in content]
        return tuple(items) if kind == "tuple" else items
    return content


def to_tensors(state: Any) -> Any:
    """A nest with tensors (sharing memory) in place of NumPy's arrays, for `split_state`."""
    if isinstance(state, np.ndarray):
        return torch.from_numpy(state)
    if isinstance(state, dict):
        return {key: to_tensors(value) for key, value in state.items()}
    return [to_tensors(value) for value in state] if isinstance(state, list | tuple) else state


def to_arrays(state: Any) -> Any:
    """The inverse of `to_tensors`.

    :raises TypeError: for tensors of a type that NumPy does not have.
    """
    if isinstance(state, Tensor):
        return state.numpy()
    if isinstance(state, dict):
        return {key: to_arrays(value) for key, value in state.items()}
    return [to_arrays(value) for value in state] if isinstance(state, list | tuple) else state


class Scaled(torch.optim.Optimizer):
    """Stands before an optimizer in the list of bases: `lr_scale`, `start_step`, `start_update`.

    Stable-Baselines3 sets one learning rate on all groups before every update; a group's is
    multiplied by `lr_scale` (a value head that learns faster than its trunk), and is zero for the
    first `start_update` updates, or, where these are not given or nobody counts them, for the first
    `start_step` steps (a trunk that waits for its value head; its moments warm up). Whoever updates
    calls `begin_update`, however many steps follow.
    """

    def __init__(self, params: Any, **keywords: Any) -> None:
        super().__init__(params, **keywords)
        for group in self.param_groups:
            group.setdefault("lr_scale", 1.0)
            group.setdefault("start_step", 0)
            group.setdefault("steps_done", 0)
            group.setdefault("start_update", 0)
            group.setdefault("updates_begun", 0)

    def begin_update(self) -> None:
        """Count an update: the algorithm learns from a rollout, in one step or in many."""
        for group in self.param_groups:
            group["updates_begun"] = group.get("updates_begun", 0) + 1

    def step(self, closure: Any = None) -> Any:
        """One update; the groups' learning rates are as SB3 set them before and after."""
        plain = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            begun, start = group.get("updates_begun", 0), group.get("start_update", 0)
            is_waiting = group["steps_done"] < group["start_step"]
            if begun and start:
                is_waiting = begun <= start
            group["lr"] = 0.0 if is_waiting else group["lr"] * group["lr_scale"]
            group["steps_done"] += 1
        try:
            return super().step(closure)
        finally:
            for group, learning_rate in zip(self.param_groups, plain, strict=True):
                group["lr"] = learning_rate


class ScaledAdam(Scaled, torch.optim.Adam):
    """Adam whose groups may carry `lr_scale`, `start_step` and `start_update` (`Scaled`)."""

    def __init__(self, params: Any, lr: float = 3e-4, **keywords: Any) -> None:
        super().__init__(params, lr=lr, **{"fused": True, **keywords})


class ScaledAdam8bit(Scaled, Adam8bit):
    """`ScaledAdam` whose two moments are kept in 8 bits (`textgym.adam_8bit`)."""

    def __init__(self, params: Any, lr: float = 3e-4, **keywords: Any) -> None:
        super().__init__(params, lr=lr, **keywords)
