"""A language model on disk: a directory that transformers opens, and that no code runs from.

`config.json`, `model.safetensors`, `tokenizer.json`, and, where training may go on, our trainer
state as `trainer.safetensors` with `trainer.json`.
"""

import copy
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from textgym.directories import atomic_directory, holds
from textgym.errors import InputError
from textgym.manifest import MANIFEST
from textgym.optimization import join_state, split_state
from textgym.paths import expand, model_directory
from textgym.policies.language_model.causal_lm import CausalLM, CausalLMConfig
from textgym.policies.language_model.run_checkpoints import (
    LAST,
    PREVIOUS,
    checkpoints_of,
    read_first_whole,
)
from textgym.saved_fields import SavedFields
from textgym.storage import json_text, read_json
from textgym.tensor_files import (
    floating,
    read_tensors,
    tensor_shapes,
    write_tensors,
)
from textgym.tokenizer import Tokenizer

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
_WRITTEN_BY = "textgym"
# Our name → the default of transformers where config.json leaves the key out.
_FIELDS: dict[str, Any] = {
    "vocab_size": None,
    "hidden_size": None,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "intermediate_size": None,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}


def save_pretrained(
    lm: CausalLM,
    directory: str | Path,
    *,
    dtype: torch.dtype | None = None,
    trainer_state: dict[str, Any] | None = None,
    keep_old_as: str | None = None,
) -> None:
    """Write a model atomically.

    :param dtype: of the weights on disk (default: as they are).
    :param trainer_state: nest of tensors and JSON values to resume from.
    :param keep_old_as: the name beside it under which the old directory is kept.
    :raises StorageError: if the directory cannot be written.
    """
    with atomic_directory(expand(directory), keep_old_as=keep_old_as) as temporary:
        write_model(lm, temporary, dtype=dtype)
        if trainer_state is not None:
            write_trainer_state(trainer_state, temporary)


def write_model(lm: CausalLM, directory: Path, *, dtype: torch.dtype | None = None) -> None:
    """Write a model's files into a directory that stands already (not atomic by itself)."""
    tensors = {
        name: tensor.detach().to(device="cpu", dtype=dtype or tensor.dtype).contiguous()
        for name, tensor in lm.state_dict().items()
        if not (lm.config.tie_word_embeddings and name == "lm_head.weight")
    }
    stored = dtype or lm.model.embed_tokens.weight.dtype
    text = json_text(_to_transformers(lm, stored), indent=2) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")
    write_tensors(tensors, directory / "model.safetensors")
    lm.tokenizer.write_files(directory)


def write_trainer_state(state: dict[str, Any], directory: Path) -> None:
    """Write a nest of tensors and JSON values as `trainer.safetensors` and `trainer.json`."""
    tensors, nest = split_state(state)
    tensors = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    write_tensors(tensors, directory / "trainer.safetensors")
    (directory / "trainer.json").write_text(json_text(nest) + "\n", encoding="utf-8")


def read_trainer_state(directory: Path) -> Any:
    """The inverse of `write_trainer_state`.

    :raises InputError: if the directory holds none or it is damaged.
    """
    if not (directory / "trainer.json").is_file():
        raise InputError(f"{directory}: holds no trainer state to resume from")
    nest = read_json(directory / "trainer.json")
    tensors = read_tensors(directory / "trainer.safetensors")
    try:
        return join_state(tensors, nest)
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration, RecursionError):
        raise InputError(f"{directory / 'trainer.json'}: damaged trainer state") from None


def load_trainer_state(directory: str | Path, lm: CausalLM) -> Any:
    """Load the weights of a checkpoint into `lm` and return its trainer state.

    Where `last` is damaged, `previous` beside it is taken, with a warning.

    :raises InputError: if the checkpoint does not exist, is damaged or is of another shape.
    """
    directory = expand(directory)

    def read(place: Path) -> tuple[CausalLM, Any]:
        return open_model(place), read_trainer_state(place)

    saved, state = read_first_whole(saved_states(directory), read, must_have_manifest=True)
    if saved.config != lm.config or saved.tokenizer != lm.tokenizer:
        raise InputError(f"{directory}: is a checkpoint of another model or tokenizer")
    lm.load_state_dict(saved.state_dict())
    return state


def open_last(directory: Path) -> CausalLM:
    """The model that a training goes on with; the one before where the last is damaged."""
    return read_first_whole(saved_states(directory), open_model, must_have_manifest=True)


def saved_states(directory: Path) -> list[Path]:
    """Where a training may go on from: its last checkpoint, and the one before where it stands."""
    previous = directory.with_name(PREVIOUS)
    is_kept = directory.name == LAST and holds(previous, "trainer.json")
    return [directory, previous] if is_kept else [directory]


def checkpoint_directory(path: str | Path) -> Path:
    """The model directory meant by a path: itself, or the best of a run directory's checkpoints.

    :raises InputError: if there is none.
    """
    return _model_directories(path)[0]


def _model_directories(path: str | Path) -> list[Path]:
    """The model directories that a path may mean, the best first.

    :raises InputError: if there is none.
    """
    path = model_directory(path)
    places = checkpoints_of(path, "config.json")
    if places:
        return places
    if not path.exists():
        raise InputError(
            f"{path}: no such directory; expected a checkpoint or run directory, or 'start', the "
            "model that comes along"
        )
    raise InputError(f"{path}: holds no config.json, so it is no checkpoint of a language model")


def from_pretrained(
    directory: str | Path, *, pad_token: str | None = None, dtype: torch.dtype = torch.float32
) -> CausalLM:
    """Open a checkpoint or run directory; weights are converted to `dtype`.

    Of a run directory the first checkpoint that is whole is taken: best, last, the one before.
    A directory of another project has no manifest; one of ours that lacks it is warned of.

    :param pad_token: fills up rows instead of the token that the directory names.
    :raises InputError: naming the file and what is wrong with it.
    """

    def read(place: Path) -> CausalLM:
        lm = open_model(place, pad_token=pad_token, dtype=dtype)
        if not (place / MANIFEST).is_file() and _is_ours(read_json(place / "config.json")):
            warnings.warn(
                f"{place}: textgym saved it with a {MANIFEST}, which is gone: damage to the other "
                "files cannot be noticed; save it again to have one",
                stacklevel=5,
            )
        return lm

    return read_first_whole(_model_directories(directory), read)


def open_model(
    directory: Path, *, pad_token: str | None = None, dtype: torch.dtype = torch.float32
) -> CausalLM:
    """Open the model of a directory that is known to be whole; see `from_pretrained`."""
    tokenizer = Tokenizer.load(directory, pad_token=pad_token)
    config = _from_transformers(read_json(directory / "config.json"), directory / "config.json")
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, but the model only "
            f"{config.vocab_size}: they do not belong together"
        )
    files = _weight_files(directory)
    shapes = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
    _check_size(config, files, directory)
    if config.tie_word_embeddings:
        shapes["lm_head.weight"] = shapes.get("model.embed_tokens.weight", (0,))
    with torch.device("meta"):
        lm = CausalLM(config, tokenizer)
    expected = {name: tuple(tensor.shape) for name, tensor in lm.state_dict().items()}
    _check_shapes(expected, shapes, directory)
    tensors: dict[str, Tensor] = {}
    for file in files:
        read = floating(read_tensors(file), file)
        tensors |= {name: tensor.to(dtype) for name, tensor in read.items() if name in expected}
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(
                f"{directory}: the weights {name!r} are not finite, its training diverged: take an "
                "earlier checkpoint"
            )
    lm.load_state_dict(tensors, assign=True)
    lm.finish_loading()
    return lm.requires_grad_(True).eval()


def open_policy(policy: object, *, pad_token: str | None = None, label: str = "policy") -> CausalLM:
    """The language model that is meant by a directory, by "start", by an agent or by itself.

    :param policy: an agent or a text policy gives a copy of its own; a `CausalLM` is not copied.
    :param pad_token: see `from_pretrained`.
    :param label: what it is called where it was given, for errors.
    :raises InputError: as `from_pretrained`; for a pad token beside a model, which has its own; or
        for an object of another kind.
    """
    if isinstance(policy, str | Path):
        return from_pretrained(policy, pad_token=pad_token)
    lm = policy if isinstance(policy, CausalLM) else _model_inside(policy, label)
    if pad_token is not None:
        raise InputError(
            f"pad_token={pad_token!r} goes with a checkpoint directory as the policy: leave it "
            "out, or open the model with CausalLM.from_pretrained(directory, pad_token=...)"
        )
    return lm


def own_policy(policy: object, *, pad_token: str | None = None) -> CausalLM:
    """As `open_policy`, and the caller's own: a given model is copied, and may be trained."""
    lm = open_policy(policy, pad_token=pad_token)
    return copy.deepcopy(lm) if lm is policy else lm


def _model_inside(owner: object, label: str) -> CausalLM:
    """A copy of the language model of an agent or of a text policy."""
    lm = getattr(getattr(owner, "policy", owner), "lm", None)
    if isinstance(lm, CausalLM):
        return copy.deepcopy(lm).requires_grad_(True).eval()
    name = type(owner).__name__
    if hasattr(owner, "save_pretrained"):
        raise InputError(
            f"{label} is a {name} without its tokenizer: write both into one directory, "
            f"model.save_pretrained(d) and tokenizer.save_pretrained(d), and pass {label}=d"
        )
    raise InputError(
        f"{label} must be a checkpoint directory, 'start', a CausalLM or an agent that writes "
        f"text, got {name}"
    )


def _weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a model: one, or those that an index names."""
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return [directory / "model.safetensors"]
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{index}: damaged, expected a weight_map")
    shards = sorted(set(names.values()))
    if any(Path(shard).name != shard or "\0" in shard for shard in shards):
        raise InputError(f"{index}: names files outside the checkpoint")
    return [directory / shard for shard in shards]


def _check_size(config: CausalLMConfig, files: list[Path], directory: Path) -> None:
    """Refuse a model that its weights cannot fill, before anything of its size is made.

    :raises InputError: saying what it would take.
    """
    stored = sum(file.stat().st_size for file in files)
    parameters = config.parameter_count
    if parameters > stored:  # a byte for each is the least
        raise InputError(
            f"{directory}: config.json calls for {parameters:,} weights ("
            f"{4 * parameters / 1e6:,.1f} MB in memory), but their files have {stored:,} bytes"
        )


def _check_shapes(
    expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]], directory: Path
) -> None:
    for name, shape in expected.items():
        if name not in found:
            raise InputError(f"{directory}: the weights lack {name!r}, which config.json calls for")
        if found[name] != shape:
            raise InputError(
                f"{directory}: {name!r} has shape {found[name]}, but config.json calls for {shape}"
            )
    # Old Llama checkpoints hold the rotary frequencies, which follow from config.json.
    extra = sorted(
        name for name in found.keys() - expected.keys() if not name.endswith("rotary_emb.inv_freq")
    )
    if extra:
        raise InputError(f"{directory}: unexpected weights, {extra[0]!r} among {len(extra)}")


def _is_ours(config: dict[str, Any]) -> bool:
    """Whether textgym wrote a `config.json`, and transformers did not write it again."""
    return config.get("written_by") == _WRITTEN_BY and "transformers_version" not in config


def _to_transformers(lm: CausalLM, dtype: torch.dtype) -> dict[str, Any]:
    config = lm.config
    content: dict[str, Any] = {name: getattr(config, name) for name in _FIELDS}
    model_type = config.model_type
    if config.qk_norm:
        model_type = "qwen3"
    elif config.attention_bias:
        model_type = "qwen2"
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    content |= {
        "model_type": model_type,
        "architectures": [_ARCHITECTURES[model_type]],
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "attention_bias": model_type == "qwen3" and config.attention_bias,
        "mlp_bias": False,
        "rope_theta": config.rope_theta,
        "rope_parameters": {**rope, **(config.rope_scaling or {})},
        "dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": lm.tokenizer.bos_token_id,
        "eos_token_id": lm.tokenizer.eos_token_id_or_ids,
        "written_by": _WRITTEN_BY,
        "pad_token_id": lm.tokenizer.pad_token_id,
    }
    if model_type == "mistral":
        content["sliding_window"] = None
    return content


def _from_transformers(content: Any, path: Path) -> CausalLMConfig:
    """Our configuration from transformers' `config.json`; refuses what the decoder cannot do."""
    fields = SavedFields(content, path)
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in _ARCHITECTURES:
        raise InputError(
            f"{path}: model_type {model_type!r:.60} is not supported; expected one of "
            f"{', '.join(_ARCHITECTURES)}"
        )
    values: dict[str, Any] = {}
    for name, default in _FIELDS.items():
        values[name] = content.get(name, default)
        if values[name] is None:
            raise InputError(f"{path}: the key {name!r} is missing")
    if content.get("hidden_act", "silu") != "silu":
        raise InputError(
            f"{path}: hidden_act {content['hidden_act']!r:.60} is not supported, only silu"
        )
    for key in ("mlp_bias", "attention_bias"):
        if content.get(key):
            raise InputError(f"{path}: {key}=true is not supported")
    rope = fields.table("rope_parameters") if fields.has("rope_parameters") else None
    values["rope_theta"] = 10_000.0
    for place in (fields, rope):
        if place is not None and place.has("rope_theta"):
            values["rope_theta"] = place.number("rope_theta", above=0)
    scaling = fields.table("rope_scaling") if content.get("rope_scaling") else rope
    values["rope_scaling"] = None if scaling is None else _rope_scaling(scaling)
    for name in ("num_key_value_heads", "head_dim"):
        values[name] = fields.whole(name, 1) if fields.has(name) else None
    window = content.get("sliding_window")
    if window and (model_type == "mistral" or content.get("use_sliding_window")):
        # Inside one window sliding attention is plain attention, so the context stops there.
        seen = (
            fields.whole("max_position_embeddings")
            if "max_position_embeddings" in content
            else 2048
        )
        values["max_position_embeddings"] = min(seen, fields.whole("sliding_window", 1))
    heads = fields.whole("num_attention_heads", 1)
    values["num_key_value_heads"] = values["num_key_value_heads"] or heads
    values["head_dim"] = values["head_dim"] or fields.whole("hidden_size", 1) // heads
    try:
        return CausalLMConfig(
            **values,
            attention_bias=model_type == "qwen2",
            qk_norm=model_type == "qwen3",
            model_type=model_type,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _rope_scaling(rope: SavedFields) -> dict[str, Any] | None:
    """The `llama3` stretching of rotary frequencies, or None for plain ones; others are refused."""
    kind = rope.content.get("rope_type", rope.content.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise InputError(
            f"{rope.path}: rope type {kind!r:.60} is not supported; expected default or llama3"
        )
    if rope.content.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(f"{rope.path}: partial rotary positions are not supported")
    if kind == "default":
        return None
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    missing = [name for name in names if not rope.has(name)]
    if missing:
        raise InputError(f"{rope.path}: the llama3 rope lacks {missing[0]!r}")
    scaling = {name: rope.number(name, above=0) for name in names[:3]}
    if scaling["low_freq_factor"] >= scaling["high_freq_factor"]:
        raise InputError(f"{rope.path}: low_freq_factor must be below high_freq_factor")
    context = rope.whole("original_max_position_embeddings", 1)
    return {"rope_type": "llama3", **scaling, names[3]: context}
