"""transformers' `config.json` and our configuration of the decoder, each from the other."""

from pathlib import Path
from typing import Any

import torch

from textgym.errors import InputError
from textgym.policies.language_model.decoder import CausalLMConfig
from textgym.saved_fields import SavedFields
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


def is_family_of_ours(config: dict[str, Any]) -> bool:
    """Whether our decoder has the family that a `config.json` names."""
    return config.get("model_type") in _ARCHITECTURES


def is_ours(config: dict[str, Any]) -> bool:
    """Whether textgym wrote a `config.json`, and transformers did not write it again."""
    return config.get("written_by") == _WRITTEN_BY and "transformers_version" not in config


def to_transformers(
    config: CausalLMConfig, tokenizer: Tokenizer, dtype: torch.dtype
) -> dict[str, Any]:
    """The content of a `config.json` that transformers opens.

    :param dtype: of the weights on disk.
    """
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
        **saved_with(tokenizer, dtype),
    }
    if model_type == "mistral":
        content["sliding_window"] = None
    return content


def saved_with(tokenizer: Tokenizer, dtype: torch.dtype) -> dict[str, Any]:
    """What a `config.json` of ours says beside the shape of the model."""
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id_or_ids,
        "written_by": _WRITTEN_BY,
        "pad_token_id": tokenizer.pad_token_id,
    }


def from_transformers(content: Any, path: Path) -> CausalLMConfig:
    """Our configuration from transformers' `config.json`; refuses what the decoder cannot do.

    :param content: of the file `path`, as JSON has it.
    :raises InputError: naming the file and the key.
    """
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
