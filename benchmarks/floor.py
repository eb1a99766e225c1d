"""The floor: the least that plain torch must do for the same learning, with no framework at all.

Rollout: prefill the prompts, then one token at a time against preallocated keys and values, all
rows at one length. Each step samples and keeps log-probability and value, as PPO needs both.
Update: forward, backward and optimizer over the token matrix [rows, tokens], with log-probability,
entropy and value, as many minibatches as the agent makes. The forward pass is written here, over
the same weights: nothing of the policy's packing or caching is used. The draw is the policy's own
(inverse of the cumulative distribution; torch.multinomial takes ten times as long). The entropy
has no gradient, since its coefficient is 0, as in Stable-Baselines3's defaults.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention, silu
from torch.optim import Adam

from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.decoder import Block


class Floor:
    """PPO without a framework.

    :param lm: its weights are trained in place.
    :param prompts: `[rows, p]` int64, all of one length.
    :param completion: tokens to write in every row.
    :param minibatches: of each epoch.
    """

    def __init__(
        self, lm: CausalLM, prompts: Tensor, completion: int, *, epochs: int, minibatches: int
    ) -> None:
        self.lm, self.prompts, self.completion = lm, prompts, completion
        self.epochs, self.minibatches = epochs, minibatches
        device = prompts.device
        lm.to(device)
        self.value = nn.Linear(lm.config.hidden_size, 1).to(device)
        self.parameters = [*lm.parameters(), *self.value.parameters()]
        self.optimizer = Adam(self.parameters, lr=3e-4, eps=1e-5)
        self.generator = torch.Generator(device).manual_seed(0)
        config, rows = lm.config, len(prompts)
        places = torch.arange(prompts.shape[1] + completion, device=device)
        angles = torch.outer(places, lm.model.inv_freq)
        angles = torch.cat([angles, angles], -1)
        self.cos, self.sin = angles.cos(), angles.sin()  # [positions, head width]
        self.is_grouped = config.num_key_value_heads < config.num_attention_heads
        size = (rows, config.num_key_value_heads, len(angles), config.head_dim)
        self.caches = [
            (torch.zeros(size, device=device), torch.zeros(size, device=device))
            for _ in lm.model.layers
        ]
        never = [lm.tokenizer.pad_token_id, lm.tokenizer.bos_token_id]
        self.excluded_ids = torch.tensor(never, device=device)

    @torch.no_grad()
    def rollout(self) -> None:
        """Fill `tokens [rows, p + completion]`, `log_probs` and `values [rows, completion]`."""
        p = self.prompts.shape[1]
        self.tokens = torch.cat(
            [self.prompts, self.prompts.new_zeros(len(self.prompts), self.completion)], 1
        )
        log_probs, values = [], []
        start = 0
        for end in range(p, p + self.completion):
            hidden = self._decode(self.tokens[:, start:end], start)
            all_log_probs = self._logits(hidden).log_softmax(-1)
            actions = self._draw(all_log_probs)
            self.tokens[:, end] = actions
            log_probs.append(all_log_probs.gather(1, actions[:, None]))
            values.append(self.value(hidden))
            start = end
        self.log_probs, self.values = torch.cat(log_probs, 1), torch.cat(values, 1)

    def update(self) -> None:
        """PPO's epochs over the last rollout; the advantages are made up, their price is nil."""
        p = self.prompts.shape[1]
        returns = torch.randn(
            self.values.shape, generator=self.generator, device=self.prompts.device
        )
        for _ in range(self.epochs):
            order = torch.randperm(
                len(self.tokens), generator=self.generator, device=self.prompts.device
            )
            for part in order.tensor_split(self.minibatches):
                hidden = self._forward(self.tokens[part, :-1])[:, p - 1 :].flatten(0, 1)
                all_log_probs = self._logits(hidden).log_softmax(-1)
                chosen = self.tokens[part, p:].reshape(-1, 1)
                log_prob = all_log_probs.gather(1, chosen)[:, 0]
                with torch.no_grad():
                    entropy = -(all_log_probs.exp() * all_log_probs).sum(-1)
                loss = self._loss(log_prob, self.value(hidden)[:, 0], part, returns)
                loss = loss - 0.0 * entropy.mean()
                self.optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.parameters, 0.5)
                self.optimizer.step()

    def _loss(self, log_prob: Tensor, values: Tensor, part: Tensor, returns: Tensor) -> Tensor:
        target = returns[part].flatten()
        advantage = target - self.values[part].flatten()
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        ratio = (log_prob - self.log_probs[part].flatten()).exp()
        clipped = torch.min(advantage * ratio, advantage * ratio.clamp(0.8, 1.2))
        return 0.5 * (values - target).square().mean() - clipped.mean()

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.lm.lm_head(hidden).index_fill_(1, self.excluded_ids, -1e9)  # 0 · -1e9 = 0

    def _draw(self, log_probs: Tensor) -> Tensor:
        cumulative = log_probs.exp().cumsum(-1)
        uniform = torch.rand((len(log_probs), 1), generator=self.generator, device=log_probs.device)
        found = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
        return found[:, 0].clamp_(max=log_probs.shape[1] - 1)

    def _forward(self, tokens: Tensor) -> Tensor:
        """`[b, t]` → `[b, t, d]`, causal."""
        x = self.lm.model.embed_tokens(tokens)
        turns = self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]]
        for block in self.lm.model.layers:
            query, key, value = self._project(block, x, *turns)
            x = finish(block, x, self._attend(query, key, value, is_causal=True))
        return self._norm(x)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool) -> Tensor:
        return scaled_dot_product_attention(
            query, key, value, is_causal=is_causal, enable_gqa=self.is_grouped
        )

    def _decode(self, tokens: Tensor, start: int) -> Tensor:
        """New tokens `[b, t]` behind `start` cached ones → `[b, d]` at the last."""
        end = start + tokens.shape[1]
        x = self.lm.model.embed_tokens(tokens)
        turns = self.cos[start:end], self.sin[start:end]
        for block, (keys, values) in zip(self.lm.model.layers, self.caches, strict=True):
            query, keys[:, :, start:end], values[:, :, start:end] = self._project(block, x, *turns)
            query = query.to(keys.dtype)
            past = keys[:, :, :end], values[:, :, :end]
            x = finish(block, x, self._attend(query, *past, is_causal=start == 0))
        return self._norm(x[:, -1])

    def _project(
        self, block: Block, x: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value `[b, heads, t, head width]`, the first two rotated."""
        b, t, _ = x.shape
        attention, width = block.self_attn, block.self_attn.head_dim
        x = rms_norm(x, x.shape[-1:], block.input_layernorm.weight, block.input_layernorm.eps)
        query = attention.q_proj(x).view(b, t, -1, width).transpose(1, 2)
        key = attention.k_proj(x).view(b, t, -1, width).transpose(1, 2)
        value = attention.v_proj(x).view(b, t, -1, width).transpose(1, 2)
        return _rotate(query, cos, sin), _rotate(key, cos, sin), value

    def _norm(self, x: Tensor) -> Tensor:
        norm = self.lm.model.norm
        return rms_norm(x, x.shape[-1:], norm.weight, norm.eps)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat([-second, first], -1) * sin


def finish(block: Block, x: Tensor, attended: Tensor) -> Tensor:
    """The rest of a block, after attention `[b, heads, t, head width]`."""
    x = x + block.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
    norm, mlp = block.post_attention_layernorm, block.mlp
    y = rms_norm(x, x.shape[-1:], norm.weight, norm.eps)
    return x + mlp.down_proj(silu(mlp.gate_proj(y)) * mlp.up_proj(y))
