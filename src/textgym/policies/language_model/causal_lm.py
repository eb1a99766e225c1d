"""The language model: decoder, head and tokenizer, in the words of transformers.

Legend: `b` rows, `t` tokens of a row, `d` hidden size, `v` vocabulary.
"""

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.policies.language_model.checkpoint import from_pretrained, save_pretrained
from textgym.policies.language_model.decoder import CausalLMConfig, Decoder, inverse_frequencies
from textgym.policies.language_model.generation import generate
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm


class CausalLM(nn.Module):
    """A causal language model with its tokenizer.

    :param config: its shape.
    :param tokenizer: its tokenizer; `vocab_size` must not exceed the model's.
    :raises InputError: if the two do not fit.
    """

    def __init__(self, config: CausalLMConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        if tokenizer.vocab_size > config.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the model only "
                f"{config.vocab_size}: use the tokenizer that the model was trained with"
            )
        self.config, self.tokenizer = config, tokenizer
        self.model = Decoder(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight

    @classmethod
    def new(cls, tokenizer: Tokenizer, *, seed: int = 0, **config: Any) -> "CausalLM":
        """A fresh model with random weights (its own generator; the global one is not touched).

        :param config: fields of `CausalLMConfig`; `vocab_size` is the tokenizer's if left out.
        """
        check_numbers({"seed": seed})
        shape = CausalLMConfig.filled_in(**{"vocab_size": tokenizer.vocab_size, **config})
        shape.check_memory()
        with torch.device("meta"):
            lm = cls(shape, tokenizer)
        lm.to_empty(device="cpu")
        lm.finish_loading()
        lm.initialize(seed)
        return lm

    def finish_loading(self) -> None:
        """What no checkpoint holds: the tie of head and embeddings, and the rotary frequencies."""
        if self.config.tie_word_embeddings:
            self.lm_head.weight = self.model.embed_tokens.weight
        self.model.inv_freq = inverse_frequencies(self.config)

    def initialize(self, seed: int) -> None:
        """Draw all weights: N(0, 0.02²), branches into the residual scaled by 1/√(2·layers)."""
        generator = torch.Generator().manual_seed(seed)
        residual_std = 0.02 / math.sqrt(2 * self.config.num_hidden_layers)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if name.endswith("norm.weight"):
                    parameter.fill_(1.0)
                elif name.endswith("bias"):
                    parameter.zero_()
                else:
                    is_branch = name.endswith(("o_proj.weight", "down_proj.weight"))
                    parameter.normal_(0.0, residual_std if is_branch else 0.02, generator=generator)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.embed_tokens.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: float32, or bfloat16 after `to(torch.bfloat16)`."""
        return self.model.embed_tokens.weight.dtype

    def hidden_states(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Hidden states of right-padded rows, zero at the padding.

        :param tokens: `[b, t]` int64.
        :param lengths: `[b]` int64, tokens of each row; without it every row is full.
        :return: `[b, t, d]`, after the final norm.
        """
        b, t = tokens.shape
        if lengths is None:
            lengths = torch.full((b,), t, device=tokens.device)
        is_token = torch.arange(t, device=tokens.device) < lengths[:, None]
        flat = self.model.packed(tokens[is_token], lengths)
        return flat.new_zeros(b, t, flat.shape[-1]).masked_scatter(is_token[..., None], flat)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits of the next token after each position: `[b, t]` int64 → `[b, t, v]`."""
        return self.lm_head(self.hidden_states(tokens, lengths))  # type: ignore[no-any-return]

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> list[str]:
        """Continue each prompt until the stop token or the budget; temperature 0 is greedy.

        :param seed: of what is drawn; without it, each call draws anew.
        :return: the continuations without their prompts.
        :raises InputError: for an empty prompt, or one that does not fit the context.
        """
        check_numbers({"max_new_tokens": max_new_tokens or 1, "seed": seed})  # 0: no text
        generator = torch.Generator(self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        return generate(
            self,
            [prompts] if isinstance(prompts, str) else prompts,
            max_new_tokens=max_new_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            generator=generator,
        )

    def save_pretrained(self, directory: str | Path) -> None:
        """Write a directory that `transformers.AutoModelForCausalLM` opens (atomically)."""
        save_pretrained(self, directory)

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, pad_token: str | None = None) -> "CausalLM":
        """Open a checkpoint directory, ours or transformers'; loading executes no code.

        :param pad_token: fills up rows instead of the token that the directory names. Where that
            one ends texts, a special token that no text needs takes its part, with a warning.
        :raises InputError: naming the file and what is wrong with it.
        """
        return from_pretrained(cls, directory, pad_token=pad_token)

    @classmethod
    def from_agent(cls, agent: "BaseAlgorithm") -> "CausalLM":
        """The language model of a trained agent: a copy of its policy's."""
        policy = getattr(agent, "policy", agent)
        lm = getattr(policy, "lm", None)
        if not isinstance(lm, CausalLM):
            raise InputError(
                f"expected an agent whose policy is a text policy, got {type(policy).__name__}"
            )
        return copy.deepcopy(lm).requires_grad_(True).eval()
