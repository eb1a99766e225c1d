"""The decoder: embeddings, blocks and the final norm of a Llama-family language model.

RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021), grouped-query attention
(Ainslie et al. 2023), SwiGLU (Shazeer 2020). The parameters are named as transformers names them,
so checkpoints of Llama and of its kin (`families.py`) fit the same class and ours open there.
Left out: dropout inside attention and mixture-of-experts layers. Why a decoder of our own: slots of
a cache that are refilled one by one, packing without padding, and an import without transformers.

Legend: `N` flat tokens, `d` hidden size.
"""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, silu
from torch.utils.checkpoint import checkpoint

from textgym.policies.language_model.attention import (
    Attention,
    CachedAttention,
    KVCache,
    SegmentAttention,
)
from textgym.policies.language_model.decoder_config import CausalLMConfig
from textgym.policies.language_model.packing import PackedSegments, positions_of
from textgym.policies.language_model.static_step import Capture, StaticCache
from textgym.policies.language_model.trunk import TokenTrunk

Rotation = tuple[Tensor, Tensor]  # cosines, and sines of which the first half is negated


class RMSNorm(nn.Module):
    """`x / rms(x) * weight` over the last dimension.

    :param is_from_one: the weight is stored less 1, and all is computed in float32 (Gemma).
    """

    def __init__(self, size: int, eps: float, *, is_from_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps, self.is_from_one = eps, is_from_one

    def forward(self, x: Tensor) -> Tensor:
        """`[..., size]` → the same shape and dtype."""
        size = (x.shape[-1],)
        if self.is_from_one:
            return torch.rms_norm(x.float(), size, 1 + self.weight.float(), self.eps).to(x.dtype)
        return torch.rms_norm(x, size, self.weight.to(x.dtype), self.eps)


def _norm(config: CausalLMConfig, size: int) -> RMSNorm:
    return RMSNorm(size, config.rms_norm_eps, is_from_one=config.family.is_gemma)


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
            self.q_norm = _norm(config, config.head_dim)
            self.k_norm = _norm(config, config.head_dim)
        # The attention kernel divides by √head_dim.
        self.query_scale = (
            config.head_dim / (config.query_pre_attn_scalar or config.head_dim)
        ) ** 0.5

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        attention: Attention,
        kept: Tensor | None = None,
    ) -> Tensor:
        """`x [N, d]`, `rotation` two `[N, 1, head_dim]` → `[N, d]`, or `[K, d]` of those kept."""
        query = self.q_proj(x).view(len(x), -1, self.head_dim)
        key = self.k_proj(x).view(len(x), -1, self.head_dim)
        value = self.v_proj(x).view(len(x), -1, self.head_dim)
        if hasattr(self, "q_norm"):
            query, key = self.q_norm(query), self.k_norm(key)
        if rotation is not None:
            query, key = _rotate(query, rotation), _rotate(key, rotation)
        if self.query_scale != 1.0:
            query = query * self.query_scale
        out = attention(self.layer, query, key, value)
        out = out.reshape(len(x), -1)
        return self.o_proj(out if kept is None else out.index_select(0, kept))  # type: ignore[no-any-return]


class GatedMLP(nn.Module):
    """`down(silu(gate(x)) * up(x))`, in Gemma with a GELU (SwiGLU and GeGLU; Shazeer 2020)."""

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)
        self.is_gelu = config.family.is_gemma

    def forward(self, x: Tensor) -> Tensor:
        """`[N, d]` → `[N, d]`"""
        gate = self.gate_proj(x)
        gate = gelu(gate, approximate="tanh") if self.is_gelu else silu(gate)
        return self.down_proj(gate * self.up_proj(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One decoder layer: attention and a gated MLP, each behind a norm and beside a residual.

    Where a family norms what comes out of the branches too, `post_attention_layernorm` is that of
    attention, as transformers calls it; elsewhere it is the norm before the MLP.
    """

    def __init__(self, config: CausalLMConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = _norm(config, config.hidden_size)
        self.self_attn = SelfAttention(config, layer)
        self.post_attention_layernorm = _norm(config, config.hidden_size)
        self.has_post_norms = config.family.has_post_norms
        if self.has_post_norms:
            self.pre_feedforward_layernorm = _norm(config, config.hidden_size)
            self.post_feedforward_layernorm = _norm(config, config.hidden_size)
        self.mlp = GatedMLP(config)

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None,
        attention: Attention,
        drop: float,
        kept: Tensor | None = None,
    ) -> Tensor:
        """`[N, d]` → `[N, d]`, or `[K, d]`; `drop` is the dropout on both residual branches."""
        branch = self.self_attn(self.input_layernorm(x), rotation, attention, kept)
        x = x if kept is None else x.index_select(0, kept)
        if self.has_post_norms:
            branch = self.post_attention_layernorm(branch)
        x = x + (dropout(branch, drop) if drop else branch)
        if self.has_post_norms:
            branch = self.post_feedforward_layernorm(self.mlp(self.pre_feedforward_layernorm(x)))
        else:
            branch = self.mlp(self.post_attention_layernorm(x))
        return x + (dropout(branch, drop) if drop else branch)


class Decoder(TokenTrunk):
    """Embeddings, blocks and the final norm: everything but the head."""

    inv_freq: Tensor
    other_inv_freq: Tensor

    def __init__(self, config: CausalLMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Block(config, i) for i in range(config.num_hidden_layers))
        self.norm = _norm(config, config.hidden_size)
        self.embedding_scale = math.sqrt(config.hidden_size) if config.family.is_gemma else 1.0
        for name, frequencies in _frequencies(config).items():
            self.register_buffer(name, frequencies, persistent=False)
        self.drop = 0.0  # set while fine-tuning; active in training mode only
        # Keep what goes into each layer for the backward pass, and compute the rest again: Chen et
        # al. (2016), "Training Deep Nets with Sublinear Memory Cost".
        self.gradient_checkpointing = False
        self.capture: Capture | None = None  # of the steps on a cache; None: they run as they are

    def _apply(self, fn: Any, recurse: bool = True) -> "Decoder":
        """torch's, behind `to`; the rotary frequencies stay in float32 whatever the weights are in.

        In bfloat16 the angles of far positions would be wrong by whole turns.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.inv_freq.dtype != torch.float32:
            for name, frequencies in _frequencies(self.config).items():
                setattr(self, name, frequencies.to(self.inv_freq.device))
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
        if self.embedding_scale != 1.0:
            x = x * x.new_full((), self.embedding_scale)  # rounded as the weights are
        if added is not None:
            x = x + added
        thetas = self.config.rope_thetas
        rotations: dict[float | None, Rotation | None] = {None: None}
        for theta in set(thetas) - {None}:
            is_main = theta == self.config.rope_theta
            frequencies = self.inv_freq if is_main else self.other_inv_freq
            rotations[theta] = _rotation(positions, frequencies, x.dtype)
        drop = self.drop if self.training else 0.0
        again = self.gradient_checkpointing and torch.is_grad_enabled()
        last = len(self.layers) - 1
        for i, (block, theta) in enumerate(zip(self.layers, thetas, strict=True)):
            arguments = x, rotations[theta], attention, drop, kept if i == last else None
            if again:  # the same dropout the second time, too
                random = drop > 0
                x = checkpoint(block, *arguments, use_reentrant=False, preserve_rng_state=random)
            else:
                x = block(*arguments)
        return self.norm(x)  # type: ignore[no-any-return]

    @torch.no_grad()
    def initialize(self, generator: torch.Generator) -> None:
        """N(0, 0.02²), branches into the residual scaled by 1/√(2·layers)."""
        residual_std = 0.02 / math.sqrt(2 * self.config.num_hidden_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("norm.weight"):
                parameter.fill_(0.0 if self.config.family.is_gemma else 1.0)
            elif name.endswith("bias"):
                parameter.zero_()
            else:
                is_branch = name.endswith(("o_proj.weight", "down_proj.weight"))
                parameter.normal_(0.0, residual_std if is_branch else 0.02, generator=generator)

    def finish_loading(self) -> None:
        """The rotary frequencies."""
        for name, frequencies in _frequencies(self.config).items():
            setattr(self, name, frequencies)

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
        """See `Trunk`; the prefixes come along in the same pass, where steps are not captured."""
        if isinstance(cache, StaticCache):
            if prefixes is not None:
                self.fill(cache, fresh, prefixes)
            return cache.step(tokens, positions)
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
        dtype, kind = weight.dtype, weight.device.type
        if torch.is_autocast_enabled(kind):  # what attention reads: each step would convert it all
            dtype = torch.float32 if kind == "cpu" else torch.get_autocast_dtype(kind)
        make = KVCache if self.capture is None else partial(StaticCache, self, self.capture)
        return make(
            self.config.num_hidden_layers,
            slots,
            self.config.num_key_value_heads,
            capacity,
            self.config.head_dim,
            device=weight.device,
            dtype=dtype,
        )


def _frequencies(config: CausalLMConfig) -> dict[str, Tensor]:
    """The rotary frequencies by the names of their buffers; those of another base are plain."""
    found = {"inv_freq": inverse_frequencies(config)}
    others = {t for t in config.rope_thetas if t is not None and t != config.rope_theta}
    if others:
        plain = replace(config, rope_theta=others.pop(), rope_scaling=None, layer_rope_thetas=())
        found["other_inv_freq"] = inverse_frequencies(plain)
    return found


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


def _rotation(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> Rotation:
    """What `_rotate` turns by: two `[N, 1, head_dim]`."""
    angles = positions[:, None].float() * frequencies  # [N, head_dim / 2]
    cos, sin = angles.cos()[:, None].to(dtype), angles.sin()[:, None].to(dtype)
    return torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)


def _rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotary positions in the half-split layout: `[N, heads, head_dim]` → the same.

    :param rotation: cosines, and sines of which the first half is negated.
    """
    cos, signed_sin = rotation
    return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * signed_sin
