"""The decoder: embeddings, blocks and the final norm of a Llama-family language model.

RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), grouped-query attention
(Ainslie et al. 2023), SwiGLU (Shazeer 2020). The parameters are named as transformers names them,
so Llama, SmolLM2, Qwen2, Qwen3 and Mistral checkpoints fit the same class and ours open there.
Left out: dropout inside attention and mixture-of-experts layers. Why a decoder of our own: slots of
a cache that are refilled one by one, packing without padding, and an import without transformers.

Legend: `N` flat tokens, `d` hidden size.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, silu

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.policies.language_model.attention import (
    Attention,
    CachedAttention,
    KVCache,
    SegmentAttention,
)
from textgym.policies.language_model.model_size import ModelSize
from textgym.policies.language_model.packing import PackedSegments, positions_of
from textgym.policies.language_model.trunk import TokenTrunk


@dataclass(frozen=True)
class CausalLMConfig(ModelSize):
    """The shape of a model, in the words of transformers' configuration.

    :param attention_bias: biases on the query, key and value projections (Qwen2).
    :param qk_norm: RMSNorm on queries and keys, per head (Qwen3).
    :param rope_scaling: transformers' dictionary; only the `llama3` kind, or None.
    :param model_type: `llama`, `mistral`, `qwen2` or `qwen3`: the class that transformers opens.
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
    def parameter_count(self) -> int:
        """Weights of the model, but for norms and biases."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        block = self.hidden_size * (2 * queries + 2 * keys + 3 * self.intermediate_size)
        tables = 1 if self.tie_word_embeddings else 2
        return tables * self.vocab_size * self.hidden_size + self.num_hidden_layers * block


class RMSNorm(nn.Module):
    """`x / rms(x) * weight` over the last dimension."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`[..., size]` → the same shape and dtype."""
        return torch.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), self.eps)


class SelfAttention(nn.Module):
    """Projections and rotary positions; who attends to whom is the `Attention` object's part."""

    def __init__(self, config: CausalLMConfig, layer: int) -> None:
        super().__init__()
        self.layer, self.head_dim = layer, config.head_dim
        query_size = config.num_attention_heads * config.head_dim
        key_size = config.num_key_value_heads * config.head_dim
        bias = config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, query_size, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, key_size, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, key_size, bias=bias)
        self.o_proj = nn.Linear(query_size, config.hidden_size, bias=False)
        if config.qk_norm:
            self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
            self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        attention: Attention,
        kept: Tensor | None = None,
    ) -> Tensor:
        """`x [N, d]`, `rotation` two `[N, 1, head_dim]` → `[N, d]`, or `[K, d]` of those kept."""
        query = self.q_proj(x).view(len(x), -1, self.head_dim)
        key = self.k_proj(x).view(len(x), -1, self.head_dim)
        value = self.v_proj(x).view(len(x), -1, self.head_dim)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        out = attention(self.layer, _rotate(query, rotation), _rotate(key, rotation), value)
        out = out.reshape(len(x), -1)
        return self.o_proj(out if kept is None else out.index_select(0, kept))  # type: ignore[no-any-return]


class SwiGLU(nn.Module):
    """`down(silu(gate(x)) * up(x))`"""

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`[N, d]` → `[N, d]`"""
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One decoder layer: attention and SwiGLU, each behind a norm and beside a residual."""

    def __init__(self, config: CausalLMConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = SwiGLU(config)

    def forward(
        self,
        x: Tensor,
        rotation: tuple[Tensor, Tensor],
        attention: Attention,
        drop: float,
        kept: Tensor | None = None,
    ) -> Tensor:
        """`[N, d]` → `[N, d]`, or `[K, d]`; `drop` is the dropout on both residual branches."""
        branch = self.self_attn(self.input_layernorm(x), rotation, attention, kept)
        x = x if kept is None else x.index_select(0, kept)
        x = x + (dropout(branch, drop) if drop else branch)
        branch = self.mlp(self.post_attention_layernorm(x))
        return x + (dropout(branch, drop) if drop else branch)


class Decoder(TokenTrunk):
    """Embeddings, blocks and the final norm: everything but the head."""

    inv_freq: Tensor

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.register_buffer("inv_freq", inverse_frequencies(config), persistent=False)
        self.drop = 0.0  # set while fine-tuning; active in training mode only

    def _apply(self, fn: Any, recurse: bool = True) -> "Decoder":
        """torch's, behind `to`; the rotary frequencies stay in float32 whatever the weights are in.

        In bfloat16 the angles of far positions would be wrong by whole turns.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.inv_freq.dtype != torch.float32:
            self.inv_freq = inverse_frequencies(self.config).to(self.inv_freq.device)
        return self

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        attention: Attention,
        kept: Tensor | None = None,
        added: Tensor | None = None,
    ) -> Tensor:
        """`tokens [N]`, `positions [N]` int64 → hidden states `[N, d]` after the final norm.

        :param kept: `[K]` int64 into the tokens: the result is `[K, d]`, and the last layer does
            for the other tokens only what these read of them (a fifth of a prompt's price here).
        :param added: `[N, d]`, what else a token is to be known by.
        """
        x = self.embed_tokens(tokens)
        if added is not None:
            x = x + added
        angles = positions[:, None].float() * self.inv_freq  # [N, head_dim / 2]
        cos, sin = angles.cos()[:, None].to(x.dtype), angles.sin()[:, None].to(x.dtype)
        rotation = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)  # each [N, 1, head_dim]
        drop = self.drop if self.training else 0.0
        for i, block in enumerate(self.layers, start=1):
            x = block(x, rotation, attention, drop, kept if i == len(self.layers) else None)
        return self.norm(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """N(0, 0.02²), branches into the residual scaled by 1/√(2·layers)."""
        residual_std = 0.02 / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                is_branch = name.endswith(("o_proj.weight", "down_proj.weight"))
                parameter.normal_(0.0, residual_std if is_branch else 0.02, generator=generator)

    def finish_loading(self) -> None:
        """The rotary frequencies."""
        self.inv_freq = inverse_frequencies(self.config)

    @property
    def cached_per_token(self) -> int:
        """Its keys and values in every layer."""
        config = self.config
        return 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim

    def packed(self, tokens: Tensor, lengths: Tensor, kept: Tensor | None = None) -> Tensor:
        """Segments laid end to end: `tokens [N]`, `lengths [B]` int64 → `[N, d]`, or `[K, d]`."""
        return self(tokens, positions_of(lengths)[1], SegmentAttention(lengths), kept)  # type: ignore[no-any-return]

    def step(
        self,
        cache: KVCache,
        tokens: Tensor,
        positions: Tensor,
        fresh: Tensor,
        prefixes: PackedSegments | None,
    ) -> Tensor:
        """See `Trunk`; the prefixes come along in the same pass."""
        lengths = fresh if prefixes is None else prefixes.lengths
        attention = CachedAttention(cache, positions, fresh, lengths)
        if prefixes is None:
            return self(tokens, positions, attention)  # type: ignore[no-any-return]
        kept = torch.arange(len(tokens), device=tokens.device)
        tokens = torch.cat([tokens, prefixes.tokens])
        return self(tokens, attention.write_positions, attention, kept)  # type: ignore[no-any-return]

    def fill(self, cache: KVCache, slots: Tensor, segments: PackedSegments) -> Tensor:
        """See `Trunk`."""
        attention = CachedAttention(cache, segments.lengths, slots, segments.lengths, steps=False)
        positions, kept = attention.write_positions, segments.acted_index
        return self(segments.tokens, positions, attention, kept)  # type: ignore[no-any-return]

    def new_cache(self, slots: int, capacity: int) -> KVCache:
        """An empty key-value cache of `slots` rows with `capacity` positions each."""
        weight = self.embed_tokens.weight
        return KVCache(
            self.config.num_hidden_layers,
            slots,
            self.config.num_key_value_heads,
            capacity,
            self.config.head_dim,
            device=weight.device,
            dtype=weight.dtype,
        )


def inverse_frequencies(config: CausalLMConfig) -> Tensor:
    """Rotary frequencies `[head_dim / 2]`, with Llama 3's stretching of the slow ones if asked."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu")
    inverse: Tensor = 1.0 / config.rope_theta ** (exponent / config.head_dim)
    scaling = config.rope_scaling
    if scaling is None:
        return inverse
    factor, context = scaling["factor"], scaling["original_max_position_embeddings"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    wavelength = 2 * math.pi / inverse
    smooth = ((context / wavelength - low) / (high - low)).clamp(0, 1)
    stretched: Tensor = (1 - smooth) * inverse / factor + smooth * inverse
    return stretched


def _rotate(x: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    """Rotary positions in the half-split layout: `[N, heads, head_dim]` → the same.

    :param rotation: cosines, and sines of which the first half is negated.
    """
    cos, signed_sin = rotation
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * signed_sin
