"""The shape of a decoder, in the words of transformers' configuration."""

from dataclasses import dataclass, field
from typing import Any

from textgym.checks import check_numbers
from textgym.errors import InputError, unknown_name
from textgym.policies.language_model.families import FAMILIES, Family
from textgym.policies.language_model.model_size import ModelSize


@dataclass(frozen=True)
class CausalLMConfig(ModelSize):
    """The shape of a model, in the words of transformers' configuration.

    :param attention_bias: biases on the query, key and value projections (Qwen2).
    :param qk_norm: RMSNorm on queries and keys, per head (Qwen3, Gemma 3).
    :param rope_scaling: transformers' dictionary; only the `llama3` kind, or None.
    :param layer_rope_thetas: base of the rotary positions in each layer, None for a layer without
        positions (SmolLM3, Gemma 3); empty: `rope_theta` in all. Beside that one base more is used.
    :param query_pre_attn_scalar: attention scores are divided by its root; None: by that of
        `head_dim` (Gemma 3).
    :param model_type: of `FAMILIES`: the class that transformers opens.
    """

    vocab_size: int
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 4
    head_dim: int = 32
    intermediate_size: int = 320
    max_position_embeddings: int = 256
    rope_theta: float = 10_000.0
    rope_scaling: dict[str, Any] | None = field(default=None, hash=False)
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    qk_norm: bool = False
    layer_rope_thetas: tuple[float | None, ...] = ()
    query_pre_attn_scalar: int | None = None
    model_type: str = "llama"

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        for name in ("tie_word_embeddings", "attention_bias", "qk_norm"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} must be True or False, got {getattr(self, name)!r:.60}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise InputError(
                f"num_attention_heads ({self.num_attention_heads}) must be a multiple of "
                f"num_key_value_heads ({self.num_key_value_heads})"
            )
        if self.attention_bias and self.qk_norm:
            raise InputError(
                "attention_bias and qk_norm exclude each other: no model family has both"
            )
        if self.model_type not in FAMILIES:
            raise unknown_name("model_type", str(self.model_type), FAMILIES)
        for name in ("attention_bias", "qk_norm"):
            if getattr(self.family, name) and not getattr(self, name):
                raise InputError(f"{name} must be True where model_type is {self.model_type!r}")
        if self.layer_rope_thetas and len(self.layer_rope_thetas) != self.num_hidden_layers:
            raise InputError(
                "layer_rope_thetas must have an entry for each layer, got "
                f"{len(self.layer_rope_thetas)} for {self.num_hidden_layers}"
            )
        for theta in self.layer_rope_thetas:
            check_numbers({"rope_theta": theta})
        if len({*self.layer_rope_thetas, self.rope_theta} - {None}) > 2:
            raise InputError("layer_rope_thetas must hold one base beside rope_theta at most")
        if self.head_dim % 2:
            raise InputError(f"head_dim must be even for rotary positions, got {self.head_dim}")

    @classmethod
    def filled_in(cls, **config: Any) -> "CausalLMConfig":
        """A configuration in which width and heads that are not given follow the width."""
        if "hidden_size" in config and "head_dim" not in config:
            check_numbers(config)
            width = config["hidden_size"]
            heads = config.setdefault("num_attention_heads", max(1, width // 32))
            config["head_dim"] = max(2, width // heads // 2 * 2)
            config.setdefault("intermediate_size", width * 8 // 3 // 16 * 16 or 16)
        if "num_attention_heads" in config:
            config.setdefault("num_key_value_heads", config["num_attention_heads"])
        return cls(**config)

    @property
    def family(self) -> Family:
        """What is otherwise than in Llama."""
        return FAMILIES[self.model_type]

    @property
    def rope_thetas(self) -> tuple[float | None, ...]:
        """Base of the rotary positions in each layer."""
        return self.layer_rope_thetas or (self.rope_theta,) * self.num_hidden_layers

    @property
    def parameter_count(self) -> int:
        """Weights of the model, but for norms and biases."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        block = self.hidden_size * (2 * queries + 2 * keys + 3 * self.intermediate_size)
        tables = 1 if self.tie_word_embeddings else 2
        return tables * self.vocab_size * self.hidden_size + self.num_hidden_layers * block
