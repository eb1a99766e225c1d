"""The language model as everything but its own file sees it: a trunk, a head and a tokenizer.

Policies, generation, the KL term, evaluation and learned reward models ask nothing else of it, so
another trunk is one subclass (docs/trunks.md has one). A base class and no protocol of `typing`:
Stable-Baselines3's policies hold it as a module of torch's.

Legend: `b` rows, `t` tokens of a row, `d` hidden size, `v` vocabulary.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import torch
from torch import Tensor, nn

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.policies.language_model import adapters
from textgym.policies.language_model.checkpoint import save_pretrained
from textgym.policies.language_model.generation import generate
from textgym.policies.language_model.lstm_config import LSTMConfig
from textgym.policies.language_model.static_step import Capture, cuda_graph
from textgym.policies.language_model.trunk import Trunk
from textgym.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm


class LanguageModelConfig(Protocol):
    """What everybody may ask of a model's configuration, in the words of transformers."""

    @property
    def vocab_size(self) -> int:
        """Rows of the head; at least the tokenizer's vocabulary."""

    @property
    def hidden_size(self) -> int:
        """Width of the hidden states."""

    @property
    def max_position_embeddings(self) -> int:
        """The longest row that the model reads."""


class LanguageModel(Trunk):
    """A causal language model with its tokenizer. `CausalLM` is one.

    A subclass sets `lm_head`, a linear layer of torch's, and has the four methods of `Trunk`.

    :param config: its shape.
    :param tokenizer: its tokenizer; `vocab_size` must not exceed the model's.
    :raises InputError: if the two do not fit.
    """

    config: LanguageModelConfig
    tokenizer: Tokenizer
    lm_head: nn.Linear
    drop: float = 0.0  # dropout in training mode, set while fine-tuning; a trunk may have none
    adapter: adapters.LoRA | None = None  # set by `adapters.add_adapter`; the rest is frozen then

    def __init__(self, config: LanguageModelConfig, tokenizer: Tokenizer) -> None:
        super().__init__()
        if tokenizer.vocab_size > config.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the model only "
                f"{config.vocab_size}: use the tokenizer that the model was trained with"
            )
        self.config, self.tokenizer = config, tokenizer

    @classmethod
    def fresh(cls, config: Any, tokenizer: Tokenizer, *, seed: int) -> Self:
        """A model with random weights; the global generator is as it was afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config, tokenizer)

    def name_in_transformers(self, name: str) -> str:
        """The name of a weight or a layer in transformers' model with the same weights.

        Its own, unless a subclass knows of another.
        """
        return name

    def finish_loading(self) -> None:
        """Make what the state on disk does not hold."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights: float32, or bfloat16 after `to(torch.bfloat16)`."""
        return self.lm_head.weight.dtype

    @property
    def cached_per_token(self) -> int:
        """Numbers that a cache keeps of each token."""
        return self.config.hidden_size

    def hidden_states(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Hidden states of right-padded rows, zero at the padding.

        :param tokens: `[b, t]` int64.
        :param lengths: `[b]` int64, tokens of each row; without it every row is full.
        :return: `[b, t, d]`, as the head reads them.
        """
        b, t = tokens.shape
        if lengths is None:
            lengths = torch.full((b,), t, device=tokens.device)
        is_token = torch.arange(t, device=tokens.device) < lengths[:, None]
        flat = self.packed(tokens[is_token], lengths)
        return flat.new_zeros(b, t, flat.shape[-1]).masked_scatter(is_token[..., None], flat)

    def forward(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits of the next token after each position: `[b, t]` int64 → `[b, t, v]`."""
        return self.lm_head(self.hidden_states(tokens, lengths))  # type: ignore[no-any-return]

    def frozen_reference(self) -> Self:
        """The model as it is now, which stays so: what a policy is held near, and measured by.

        Of one with an adapter only that is copied.
        """
        own = copy.deepcopy(self) if self.adapter is None else adapters.copy_on_same_base(self)
        return own.requires_grad_(False).eval()

    def trainable_copy(self) -> Self:
        """A copy with all its weights free to learn, and without an adapter, which is merged."""
        return copy.deepcopy(self.merged()).requires_grad_(True).eval()

    def compute_layers_again(self) -> None:
        """Keep what goes into each layer for the backward pass, and compute the rest again there.

        :raises InputError: for a model that is no transformer of ours.
        """
        trunk: Any = getattr(self, "model", None)
        if not hasattr(trunk, "gradient_checkpointing"):
            family = getattr(self.config, "content", {}).get("model_type")
            what = f"a {family} model, which transformers runs," if family else "this one"
            raise InputError(
                "gradient_checkpointing is of our own transformer, whose layers can be computed "
                f"again; {what} has no such layers: leave it out, and give micro_batch_tokens=512 "
                "instead"
            )
        trunk.gradient_checkpointing = True

    def capture_steps(self, capture: Capture = cuda_graph) -> None:
        """Decode by steps that are captured once a cache: on a GPU by replaying a CUDA graph.

        :param capture: what does it; see `StaticCache`.
        :raises InputError: for a model that is no transformer of ours.
        """
        trunk: Any = getattr(self, "model", None)
        if not hasattr(trunk, "capture"):
            raise InputError(
                "cuda_graphs is of the transformer, whose step has one shape; this "
                f"{type(self).__name__} has no such step: leave it out"
            )
        trunk.capture = capture

    @property
    def is_recurrent(self) -> bool:
        """Whether it is an lstm, whose layers not every processor has in bfloat16."""
        return isinstance(self.config, LSTMConfig)

    def without_adapter(self) -> Self:
        """What the model was before it had an adapter: another object on the same weights."""
        return self if self.adapter is None else adapters.without_adapter(self)

    def merged(self) -> Self:
        """The model as its own weights have it alone; itself, where it has no adapter."""
        return self if self.adapter is None else adapters.merged(self)

    def value_trunk(self) -> Trunk:
        """A copy without the head, for a value function of its own."""
        trunk = copy.deepcopy(self)
        del trunk.lm_head
        return trunk

    def generate(
        self,
        prompts: str | Sequence[str],
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        chat: bool = False,
        system: str | None = None,
        seed: int | None = None,
    ) -> list[str]:
        """Continue each prompt until the stop token or the budget; temperature 0 is greedy.

        :param chat: each prompt is a user's message, and is answered, by the chat template.
        :param system: with `chat`: the system message in front of each.
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
            chat=chat,
            system=system,
            generator=generator,
        )

    def save_pretrained(self, directory: str | Path) -> None:
        """Write a directory (atomically), which `transformers.AutoModelForCausalLM` opens too.

        That of an lstm only textgym opens: transformers has no class for it. An adapter is merged.

        :raises InputError: for a model that is no `CausalLM`: nothing opens it from a directory.
        """
        save_pretrained(self.merged(), directory)

    @classmethod
    def from_agent(cls, agent: "BaseAlgorithm") -> Self:
        """The language model of a trained agent: a copy of its policy's."""
        policy = getattr(agent, "policy", agent)
        lm = getattr(policy, "lm", None)
        if not isinstance(lm, LanguageModel):
            raise InputError(
                f"expected an agent whose policy is a text policy, got {type(policy).__name__}"
            )
        if not isinstance(lm, cls):
            raise InputError(
                f"the agent's language model is a {type(lm).__name__}, not a {cls.__name__}: take "
                "LanguageModel.from_agent(agent)"
            )
        return lm.trainable_copy()
