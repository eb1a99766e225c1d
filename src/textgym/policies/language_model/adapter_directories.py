"""A LoRA or DoRA adapter of peft's in a directory of its own, merged into the model under it.

`adapter_config.json` names the base, `adapter_model.safetensors` holds the two small matrices of
each layer that has an adapter. They are read as numbers: neither peft nor any code of the directory
is run. Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models"; Kalajdzievski
(2023), "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA"; Liu et al. (2024), "DoRA:
Weight-Decomposed Low-Rank Adaptation".
"""

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.adapters import (
    ADAPTER_WEIGHTS,
    PREFIX,
    is_linear,
    is_turned,
)
from textgym.saved_fields import SavedFields
from textgym.storage import read_json
from textgym.tensor_files import floating, read_tensors

if TYPE_CHECKING:
    from textgym.policies.language_model.language_model import LanguageModel

ADAPTER_CONFIG = "adapter_config.json"
BASE_NAME = "base_model_name_or_path"
_A, _B, _LENGTHS = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
_CHANGE_THE_BASE = ("pissa", "olora", "loftq", "corda", "lora_ga")  # ways to begin


def is_adapter(directory: Path) -> bool:
    """Whether a directory holds an adapter and no model."""
    return (directory / ADAPTER_CONFIG).is_file() and not (directory / "config.json").exists()


def base_of(directory: Path) -> str | Path:
    """The model that an adapter is for: a directory, or a name as a policy may have.

    A path that is not here is looked for from the adapter's own directory.

    :raises InputError: if the adapter names none.
    """
    path = directory / ADAPTER_CONFIG
    name = SavedFields(read_json(path), path).content.get(BASE_NAME)
    if not isinstance(name, str) or not name.strip():
        raise InputError(
            f"{path}: names no base model: write its directory or its name on the hub as "
            f"{BASE_NAME}"
        )
    beside = directory / name
    return beside if "\0" not in name and not os.path.exists(name) and beside.is_dir() else name


@torch.no_grad()
def merge_adapter(lm: "LanguageModel", directory: Path) -> None:
    """Add an adapter of a directory to the weights of a model, in place.

    :raises InputError: naming the file: for another kind of adapter, ranks that are not those of
        the configuration, layers that the model has not, or matrices that do not fit them.
    """
    scale_of, use_dora = _settings(directory)
    file = directory / ADAPTER_WEIGHTS
    pickled = sorted(directory.glob("*.bin"))
    if pickled and not file.exists():
        raise InputError(
            f"{directory}: holds pickled weights only ({pickled[0].name}), which are never opened, "
            f"as that may run code: save_pretrained of peft writes {ADAPTER_WEIGHTS}"
        )
    if not file.exists():
        raise InputError(f"{directory}: holds no weights of the adapter: expected {file.name}")
    layers = {lm.name_in_transformers(name): part for name, part in lm.named_modules()}
    for name, parts in _by_layer(floating(read_tensors(file), file), file, use_dora).items():
        layer = layers.get(name)
        if layer is lm.lm_head:
            raise InputError(f"{file}: an adapter on the head {name!r} is not supported")
        if layer is None or not is_linear(layer):
            raise InputError(f"{file}: the base has no linear layer {name!r:.100}: another base?")
        _merge(layer, parts, scale_of, f"{file}: {name!r:.100}")


def _settings(directory: Path) -> tuple[dict[int, float], bool]:
    """What B A is multiplied by, by rank, and whether lengths are learned apart."""
    path = directory / ADAPTER_CONFIG
    fields = SavedFields(read_json(path), path)
    kind = fields.content.get("peft_type")
    if kind != "LORA":
        raise InputError(f"{path}: peft_type {kind!r:.60} is not supported, only LORA")
    begun = fields.content.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_CHANGE_THE_BASE):
        raise InputError(
            f"{path}: init_lora_weights={begun!r:.60} changes the base itself: save the adapter "
            "with path_initial_model_for_weight_conversion, as peft says"
        )
    for key in ("alpha_pattern", "modules_to_save", "layer_replication", "use_qalora", "lora_bias"):
        if fields.content.get(key):
            raise InputError(f"{path}: {key} is not supported")
    ranks = {fields.whole("r", 1)}
    if fields.content.get("rank_pattern"):
        pattern = fields.table("rank_pattern")
        ranks |= {pattern.whole(name, 1) for name in pattern.content}
    alpha = fields.number("lora_alpha")
    is_stable = fields.content.get("use_rslora") is True
    scales = {rank: alpha / (math.sqrt(rank) if is_stable else rank) for rank in ranks}
    return scales, fields.content.get("use_dora") is True


def _by_layer(
    tensors: dict[str, Tensor], file: Path, use_dora: bool
) -> dict[str, dict[str, Tensor]]:
    """The matrices of each layer, by transformers' name of it."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name = key.removeprefix(PREFIX)
        kinds = {_A: _A, _B: _B, _LENGTHS: _LENGTHS, f"{_LENGTHS}.weight": _LENGTHS}
        kind = next((kind for kind in kinds if name.endswith(f".{kind}")), None)
        if kind is None:
            raise InputError(
                f"{file}: {key!r:.100} is no matrix of LoRA on a linear layer, which alone is "
                "supported"
            )
        found.setdefault(name.removesuffix(f".{kind}"), {})[kinds[kind]] = tensor.float()
    expected = {_A, _B, _LENGTHS} if use_dora else {_A, _B}
    for name, parts in found.items():
        if parts.keys() != expected:
            wrong = min(parts.keys() ^ expected)
            what = "lacks" if wrong in expected else "has, without use_dora,"
            raise InputError(f"{file}: {name!r:.100} {what} {wrong}")
    if not found:
        raise InputError(f"{file}: holds no adapter of any layer")
    return found


def _merge(layer: Any, parts: dict[str, Tensor], scale_of: dict[int, float], where: str) -> None:
    """One layer with its adapter added."""
    a, b = parts[_A].to(layer.weight.device), parts[_B].to(layer.weight.device)
    weight = (layer.weight.T if is_turned(layer) else layer.weight).float()  # [out, in]
    rows, columns = weight.shape
    shapes = (tuple(a.shape), tuple(b.shape))
    if a.ndim != 2 or shapes != ((len(a), columns), (rows, len(a))):
        raise InputError(
            f"{where} has matrices of shapes {shapes[0]} and {shapes[1]}, but the base's layer is "
            f"{rows} x {columns}: another base?"
        )
    if len(a) not in scale_of:
        ranks = ", ".join(map(str, sorted(scale_of)))
        raise InputError(f"{where} is of rank {len(a)}, but {ADAPTER_CONFIG} says {ranks}")
    merged = weight + scale_of[len(a)] * (b @ a)
    if _LENGTHS in parts:
        lengths = parts[_LENGTHS].to(weight.device)
        if tuple(lengths.shape) != (rows,):
            raise InputError(f"{where} has {lengths.numel()} lengths for {rows} rows")
        merged *= (lengths / merged.norm(dim=1))[:, None]
    layer.weight.copy_(merged.T if is_turned(layer) else merged)
