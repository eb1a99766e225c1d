"""A language model on disk: a directory that transformers opens, and that no code runs from.

`config.json`, `model.safetensors`, `tokenizer.json`, and, where training may go on, our trainer
state as `trainer.safetensors` with `trainer.json`.
"""

import copy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from textgym.errors import InputError
from textgym.optimization import join_state, split_state
from textgym.paths import expand, model_directory
from textgym.policies.causal_lm import CausalLM, CausalLMConfig
from textgym.storage import atomic_directory, json_text, read_json, recover, verify_directory
from textgym.tokenizer import Tokenizer

_ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
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
) -> None:
    """Write a model atomically.

    :param dtype: of the weights on disk (default: as they are).
    :param trainer_state: nest of tensors and JSON values to resume from.
    :raises StorageError: if the directory cannot be written.
    """
    with atomic_directory(expand(directory)) as temporary:
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
    _write_tensors(tensors, directory / "model.safetensors")
    lm.tokenizer.save(directory)


def write_trainer_state(state: dict[str, Any], directory: Path) -> None:
    """Write a nest of tensors and JSON values as `trainer.safetensors` and `trainer.json`."""
    tensors, nest = split_state(state)
    tensors = {name: tensor.cpu().clone() for name, tensor in tensors.items()}
    _write_tensors(tensors, directory / "trainer.safetensors")
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
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration):
        raise InputError(f"{directory / 'trainer.json'}: damaged trainer state") from None


def load_trainer_state(directory: str | Path, lm: CausalLM) -> Any:
    """Load the weights of a checkpoint into `lm` and return its trainer state.

    :raises InputError: if the checkpoint does not exist, is damaged or is of another shape.
    """
    directory = expand(directory)
    saved = from_pretrained(directory)
    if saved.config != lm.config or saved.tokenizer != lm.tokenizer:
        raise InputError(f"{directory}: is a checkpoint of another model or tokenizer")
    lm.load_state_dict(saved.state_dict())
    return read_trainer_state(directory)


def checkpoint_directory(path: str | Path) -> Path:
    """The model directory meant by a path: itself, or the best of a run directory's checkpoints.

    :raises InputError: if there is none.
    """
    path = model_directory(path)
    for candidate in (path, path / "checkpoints" / "best", path / "checkpoints" / "last"):
        recover(candidate)
        if (candidate / "config.json").is_file():
            return candidate
    if not path.exists():
        raise InputError(f"{path}: no such directory; expected a checkpoint or run directory")
    raise InputError(f"{path}: holds no config.json, so it is no checkpoint of a language model")


def from_pretrained(
    directory: str | Path, *, pad_token: str | None = None, dtype: torch.dtype = torch.float32
) -> CausalLM:
    """Open a checkpoint or run directory; weights are converted to `dtype`.

    :param pad_token: fills up rows instead of the token that the directory names.
    :raises InputError: naming the file and what is wrong with it.
    """
    directory = checkpoint_directory(directory)
    verify_directory(directory)
    tokenizer = Tokenizer.load(directory, pad_token=pad_token)
    config = _from_transformers(read_json(directory / "config.json"), directory / "config.json")
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"{directory}: the tokenizer has {tokenizer.vocab_size} tokens, but the model only "
            f"{config.vocab_size}: they do not belong together"
        )
    tensors = {name: tensor.to(dtype) for name, tensor in _read_weights(directory).items()}
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors.get("model.embed_tokens.weight", torch.empty(0))
    with torch.device("meta"):
        lm = CausalLM(config, tokenizer)
    expected = {name: tuple(tensor.shape) for name, tensor in lm.state_dict().items()}
    _check_shapes(expected, tensors, directory)
    for name in expected:
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(
                f"{directory}: the weights {name!r} are not finite, its training diverged: take an "
                "earlier checkpoint"
            )
    lm.load_state_dict({name: tensors[name] for name in expected}, assign=True)
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


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file.

    :raises InputError: naming the file, if it is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not a safetensors file that can be read ({error})") from None


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, for one
        raise OSError(str(error)) from error


def _read_weights(directory: Path) -> dict[str, Tensor]:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return read_tensors(directory / "model.safetensors")
    try:
        shards = sorted(set(read_json(index)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{index}: damaged, expected a weight_map") from None
    if any(Path(shard).name != shard for shard in shards):
        raise InputError(f"{index}: names files outside the checkpoint")
    return {k: v for shard in shards for k, v in read_tensors(directory / shard).items()}


def _check_shapes(
    expected: dict[str, tuple[int, ...]], tensors: dict[str, Tensor], directory: Path
) -> None:
    for name, shape in expected.items():
        if name not in tensors:
            raise InputError(f"{directory}: the weights lack {name!r}, which config.json calls for")
        if tuple(tensors[name].shape) != shape:
            raise InputError(
                f"{directory}: {name!r} has shape {tuple(tensors[name].shape)}, but config.json "
                f"calls for {shape}"
            )
    # Old Llama checkpoints hold the rotary frequencies, which follow from config.json.
    extra = sorted(
        name
        for name in tensors.keys() - expected.keys()
        if not name.endswith("rotary_emb.inv_freq")
    )
    if extra:
        raise InputError(f"{directory}: unexpected weights, {extra[0]!r} among {len(extra)}")


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
        "pad_token_id": lm.tokenizer.pad_token_id,
    }
    if model_type == "mistral":
        content["sliding_window"] = None
    return content


def _from_transformers(content: Any, path: Path) -> CausalLMConfig:
    """Our configuration from transformers' `config.json`; refuses what the decoder cannot do."""
    if not isinstance(content, dict) or content.get("model_type") not in _ARCHITECTURES:
        kind = content.get("model_type") if isinstance(content, dict) else content
        raise InputError(
            f"{path}: model_type {kind!r} is not supported; expected one of "
            f"{', '.join(_ARCHITECTURES)}"
        )
    values: dict[str, Any] = {}
    for name, default in _FIELDS.items():
        values[name] = content.get(name, default)
        if values[name] is None:
            raise InputError(f"{path}: the key {name!r} is missing")
    model_type = content["model_type"]
    heads = values["num_attention_heads"]
    rope = content.get("rope_parameters") or {}
    if content.get("hidden_act", "silu") != "silu":
        raise InputError(
            f"{path}: hidden_act {content['hidden_act']!r} is not supported, only silu"
        )
    for key in ("mlp_bias", "attention_bias"):
        if content.get(key):
            raise InputError(f"{path}: {key}=true is not supported")
    window = content.get("sliding_window")
    if window and (model_type == "mistral" or content.get("use_sliding_window")):
        # Inside one window sliding attention is plain attention, so the context stops there.
        values["max_position_embeddings"] = min(values["max_position_embeddings"], int(window))
    try:
        return CausalLMConfig(
            **values,
            num_key_value_heads=content.get("num_key_value_heads") or heads,
            head_dim=content.get("head_dim") or values["hidden_size"] // heads,
            rope_theta=float(rope.get("rope_theta") or content.get("rope_theta") or 10_000.0),
            rope_scaling=_rope_scaling(content.get("rope_scaling") or rope, path),
            attention_bias=model_type == "qwen2",
            qk_norm=model_type == "qwen3",
            model_type=model_type,
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from None


def _rope_scaling(rope: Any, path: Path) -> dict[str, Any] | None:
    """The `llama3` stretching of rotary frequencies, or None for plain ones; others are refused."""
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise InputError(f"{path}: rope type {kind!r} is not supported; expected default or llama3")
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        raise InputError(f"{path}: partial rotary positions are not supported")
    if kind == "default":
        return None
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    missing = [name for name in names if name not in rope]
    if missing:
        raise InputError(f"{path}: the llama3 rope lacks {missing[0]!r}")
    return {"rope_type": "llama3", **{name: rope[name] for name in names}}
