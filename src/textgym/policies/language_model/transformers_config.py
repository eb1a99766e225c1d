"""transformers' `config.json` and our configuration of the decoder, each from the other."""

from pathlib import Path
from typing import Any

import torch

from textgym.errors import InputError
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.policies.language_model.families import FAMILIES, LEFT_OUT
from textgym.saved_fields import SavedFields
from textgym.tokenizer import Tokenizer

_WRITTEN_BY = "textgym"
GELU = "gelu_pytorch_tanh"
FULL, SLIDING = "full_attention", "sliding_attention"  # transformers' kinds of layers
# Bases of rotary positions where config.json leaves them out.
_THETAS = {"smollm3": 2_000_000.0, "gemma3_text": 1_000_000.0}
_WINDOW = 4096  # of Mistral and Gemma 3, where config.json leaves it out
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


class BeyondDecoderError(InputError):
    """A member of a family of ours with something that our decoder does not compute."""


def is_family_of_ours(config: dict[str, Any]) -> bool:
    """Whether our decoder has the family that a `config.json` names."""
    kind = config.get("model_type")
    return isinstance(kind, str) and kind in FAMILIES


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
    if config.qk_norm and not config.family.qk_norm:
        model_type = "qwen3"
    elif config.attention_bias:
        model_type = "qwen2"
    rope = {"rope_type": "default", "rope_theta": config.rope_theta}
    content |= {
        "model_type": model_type,
        "architectures": [FAMILIES[model_type].architecture],
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
    if model_type == "smollm3":
        content["no_rope_layers"] = [int(theta is not None) for theta in config.rope_thetas]
        content |= {"use_sliding_window": False, "sliding_window": None}
    if config.family.is_gemma:
        content["hidden_act"] = content["hidden_activation"] = GELU
    if model_type == "gemma3_text":
        content |= _windows_of_gemma3(config, rope)
    return content


def _windows_of_gemma3(config: CausalLMConfig, rope: dict[str, Any]) -> dict[str, Any]:
    """Which layers look back through a window, that of our context, and their positions."""
    is_local = [theta != config.rope_theta for theta in config.rope_thetas]
    local = next((theta for theta in config.rope_thetas if theta != config.rope_theta), 10_000.0)
    ropes = {FULL: rope, SLIDING: {"rope_type": "default", "rope_theta": local}}
    return {
        "query_pre_attn_scalar": config.query_pre_attn_scalar or config.head_dim,
        "sliding_window": config.max_position_embeddings,
        "layer_types": [SLIDING if local else FULL for local in is_local],
        "rope_parameters": ropes,
        "rope_local_base_freq": local,
    }


def otherwise_tied(is_tied: bool) -> str:
    """What to say where weights and `config.json` disagree about the head.

    :param is_tied: whether the head is the table of embeddings, as the weights have it.
    """
    found = "no head of their own" if is_tied else "a head of its own"
    return (
        f"its weights hold {found}, but config.json says tie_word_embeddings="
        f"{str(not is_tied).lower()}: set it to {str(is_tied).lower()}"
    )


def check_not_quantized(content: dict[str, Any]) -> None:
    """Raises for a `config.json` whose weights are numbers of few bits, and scales beside them.

    :raises InputError: saying so.
    """
    if content.get("quantization_config"):
        raise InputError(
            "its weights are quantized (quantization_config), which cannot be trained: take the "
            "model's own weights"
        )


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
    :raises BeyondDecoderError: for a member of a family of ours that transformers may run.
    :raises InputError: naming the file and the key.
    """
    fields = SavedFields(content, path)
    model_type = content.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        reason = LEFT_OUT.get(model_type) if isinstance(model_type, str) else None
        why = f" ({reason})" if reason else ""
        raise InputError(
            f"{path}: model_type {model_type!r:.60} is not supported{why}; expected one of "
            f"{', '.join(FAMILIES)}"
        )
    try:
        check_not_quantized(content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    family = FAMILIES[model_type]
    values: dict[str, Any] = {}
    for name, default in _FIELDS.items():
        values[name] = content.get(name, default)
        if name == "tie_word_embeddings":
            values[name] = content.get(name, family.is_tied)
        if values[name] is None:
            raise InputError(f"{path}: the key {name!r} is missing")
    activation = GELU if family.is_gemma else "silu"
    for key in ("hidden_act", "hidden_activation"):
        if (content.get(key) or activation) != activation:
            raise BeyondDecoderError(
                f"{path}: {key} {content[key]!r:.60} is not supported, only {activation}"
            )
    for key in ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention"):
        if content.get(key):
            raise InputError(f"{path}: {key} is not supported")
    for key in ("mlp_bias", "attention_bias"):
        if content.get(key):
            raise BeyondDecoderError(f"{path}: {key}=true is not supported")
    if content.get("is_causal") is False:
        raise InputError(
            f"{path}: is_causal=false (it looks at the tokens that come after) is not supported"
        )
    rope = fields.table("rope_parameters") if fields.has("rope_parameters") else None
    local = None
    if rope is not None and FULL in rope.content:  # a table for each kind of layer
        local = rope.table(SLIDING) if rope.has(SLIDING) else None
        rope = rope.table(FULL)
    values["rope_theta"] = _THETAS.get(model_type, 10_000.0)
    for place in (fields, rope):
        if place is not None and place.has("rope_theta"):
            values["rope_theta"] = place.number("rope_theta", above=0)
    scaling = fields.table("rope_scaling") if content.get("rope_scaling") else rope
    values["rope_scaling"] = None if scaling is None else _rope_scaling(scaling)
    for name in ("num_key_value_heads", "head_dim"):
        values[name] = fields.whole(name, 1) if fields.has(name) else None
    is_always = model_type in ("mistral", "gemma3_text")
    window = content.get("sliding_window", _WINDOW if is_always else None)
    if window and (is_always or content.get("use_sliding_window")):
        # Inside one window sliding attention is plain attention, so the context stops there.
        key = "max_position_embeddings"
        seen = fields.whole(key) if key in content else 2048
        if "sliding_window" in content:
            window = fields.whole("sliding_window", 1)
        values[key] = min(seen, window)
    heads = fields.whole("num_attention_heads", 1)
    values["num_key_value_heads"] = values["num_key_value_heads"] or heads
    values["head_dim"] = values["head_dim"] or fields.whole("hidden_size", 1) // heads
    layers = fields.whole("num_hidden_layers", 1, 10_000)
    if model_type == "smollm3":
        values["layer_rope_thetas"] = _thetas_of_smollm3(fields, layers, values["rope_theta"])
    if model_type == "gemma3_text":
        values["layer_rope_thetas"] = _thetas_of_gemma3(fields, layers, values["rope_theta"], local)
        scalar = "query_pre_attn_scalar"
        values[scalar] = fields.whole(scalar, 1) if fields.has(scalar) else 256
    try:
        return CausalLMConfig(
            **values,
            attention_bias=family.attention_bias,
            qk_norm=family.qk_norm,
            model_type=model_type,
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def _thetas_of_smollm3(fields: SavedFields, layers: int, theta: float) -> tuple[float | None, ...]:
    """SmolLM3: every fourth layer is without positions, unless a list says which."""
    if fields.has("no_rope_layers"):  # 1: with positions
        turned = fields.items("no_rope_layers")[:layers]
        if len(turned) < layers:
            raise fields.error("no_rope_layers", f"a list of {layers}")
    else:
        key = "no_rope_layer_interval"
        every = fields.whole(key, 1) if fields.has(key) else 4
        turned = [(i + 1) % every != 0 for i in range(layers)]
    return tuple(theta if is_turned else None for is_turned in turned)


def _thetas_of_gemma3(
    fields: SavedFields, layers: int, theta: float, local: SavedFields | None
) -> tuple[float | None, ...]:
    """Gemma 3: layers that look back through a window have a base of their own."""
    base = 10_000.0
    for place, key in ((fields, "rope_local_base_freq"), (local, "rope_theta")):
        if place is not None and place.has(key):
            base = place.number(key, above=0)
    if local is not None and _rope_scaling(local) is not None:
        raise InputError(f"{local.path}: stretched positions are not supported there")
    if fields.has("layer_types"):
        kinds = fields.items("layer_types", layers)
    else:
        key = "sliding_window_pattern"
        every = fields.whole(key, 1) if fields.has(key) else 6
        kinds = [SLIDING if (i + 1) % every else FULL for i in range(layers)]
    if not set(kinds) <= {FULL, SLIDING}:
        raise fields.error("layer_types", f"a list of {FULL} and {SLIDING}")
    return tuple(theta if kind == FULL else base for kind in kinds)


def _rope_scaling(rope: SavedFields) -> dict[str, Any] | None:
    """The `llama3` stretching of rotary frequencies, or None for plain ones; others are refused."""
    kind = rope.content.get("rope_type", rope.content.get("type", "default"))
    if kind not in ("default", "llama3"):
        # Positions that change with the length of a text (longrope) would change what is cached.
        error = BeyondDecoderError if kind in ("linear", "dynamic", "yarn") else InputError
        raise error(
            f"{rope.path}: rope type {kind!r:.60} is not supported; expected default or llama3"
        )
    if rope.content.get("partial_rotary_factor", 1.0) != 1.0:
        raise BeyondDecoderError(f"{rope.path}: partial rotary positions are not supported")
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
