"""The Stable-Baselines3 actor-critic policy: a language model with a value head.

SB3's own methods mean what they mean in SB3. `forward` decodes one token against a cache;
`evaluate_actions` runs one causal pass per episode segment when the buffer hands it
`PackedSegments`, and one per row when it is SB3's own buffer.

Legend: `n` rows, `L` width of a row, `A` acted positions, `v` actions, `d` hidden size.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from textgym.checks import check_numbers
from textgym.divergence import ADVICE
from textgym.errors import DivergenceError, InputError
from textgym.policies.language_model.chunks import in_chunks
from textgym.policies.language_model.packing import (
    PackedSegments,
    pack_rows,
    parts_of,
    row_lengths,
)
from textgym.policies.language_model.precision import autocast, dtype_of
from textgym.policies.language_model.sampling import chosen_log_probs, draw, log_prob_and_entropy
from textgym.policies.language_model.trunk import Trunk
from textgym.policies.sb3.exchange import Exchange
from textgym.policies.sb3.model_and_spaces import check_rows
from textgym.policies.sb3.shared_backward import TokenDistribution
from textgym.policies.sb3.text_policy import TextPolicy


class TextActorCriticPolicy(TextPolicy, ActorCriticPolicy):
    """A causal language model that chooses tokens, with a value head.

    :param value_trunk: `"shared"`: the value head reads the policy's hidden states; `"own"`: those
        of a copy of the trunk that learns values only.
    :param dtype: "float32", or "bfloat16": products by autocast, while what learns stays in
        float32 (under an adapter the other weights are kept in bfloat16).
    :param gradient_checkpointing: keep only what goes into each layer for the backward pass, and
        compute the rest again: less memory, and a third more time.
    :param micro_batch_tokens: read a minibatch in parts of so many tokens, prompts included, and
        each again in the backward pass; gradients are those of the whole. None: at once.
    :param cuda_graphs: decode with steps of one shape, each of which a GPU replays as one CUDA
        graph instead of launching hundreds of kernels; a processor runs them as they are.
    :param keywords: those of `TextPolicy`.
    :raises InputError: if spaces and model do not fit, or a number makes no sense.
    """

    sb3_settings: ClassVar[Mapping[str, Any]] = {"net_arch": []}
    excluded_ids: Tensor

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Callable[[float], float],
        *,
        value_trunk: str = "shared",
        dtype: str = "float32",
        gradient_checkpointing: bool = False,
        micro_batch_tokens: int | None = None,
        cuda_graphs: bool = False,
        use_sde: bool = False,
        **keywords: Any,
    ) -> None:
        if value_trunk not in ("shared", "own"):
            raise InputError(f"value_trunk must be 'shared' or 'own', got {value_trunk!r}")
        if use_sde:
            raise InputError("use_sde is for continuous actions; tokens are discrete")
        if value_trunk == "own" and keywords.get("lora_rank") is not None:
            raise InputError(
                "value_trunk='own' learns a second whole trunk, which lora_rank is to save: leave "
                "one of them out"
            )
        check_numbers({"micro_batch_tokens": micro_batch_tokens})
        switches = {"gradient_checkpointing": gradient_checkpointing, "cuda_graphs": cuda_graphs}
        for name, value in switches.items():
            if not isinstance(value, bool):
                raise InputError(f"{name} must be True or False, got {value!r:.60}")
        self.gradient_checkpointing, self.cuda_graphs = gradient_checkpointing, cuda_graphs
        self.micro_batch_tokens = micro_batch_tokens
        self.value_trunk = value_trunk
        self.dtype = dtype_of(dtype)
        super().__init__(observation_space, action_space, lr_schedule, **keywords)

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        self.lm, excluded_ids = self._open_model()
        if self.gradient_checkpointing:
            self.lm.compute_layers_again()
        if self.cuda_graphs:
            self.lm.capture_steps()
        self.value_decoder = self.lm.value_trunk() if self.value_trunk == "own" else None
        self.value_net = nn.Linear(self.lm.config.hidden_size, 1)
        nn.init.zeros_(self.value_net.weight)  # the first values are 0, whatever the trunk says
        nn.init.zeros_(self.value_net.bias)
        self.register_buffer("excluded_ids", excluded_ids, persistent=False)
        if torch.bfloat16 in (self.dtype, self.lm.dtype):
            Exchange.of(self.observation_space).log_probs_of = self._log_probs_of
        heads = list(self.value_net.parameters())
        if self.value_decoder is not None:
            heads += list(self.value_decoder.parameters())
        self._start(heads, lr_schedule)

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Choose a token for every row.

        :param obs: `[n, L]` int64.
        :return: actions `[n]` int64, values `[n, 1]`, log-probabilities `[n]`.
        """
        check_rows(obs)
        decoder = self._decoder("rollout", self.lm)
        hidden = decoder(obs)
        log_probs = self._logits(hidden, obs, caller="rollout").log_softmax(-1)
        generator = self._generator("rollout", obs.device)
        actions = log_probs.argmax(-1) if deterministic else draw(log_probs, generator)
        chosen = log_probs.gather(-1, actions[:, None])[:, 0]
        if self.value_decoder is not None:
            value_decoder = self._decoder("rollout value", self.value_decoder)
            hidden = value_decoder(obs)
            value_decoder.expect(actions)
        decoder.expect(actions)
        return actions, self._values(hidden), chosen

    def evaluate_actions(  # type: ignore[override]
        self, obs: Tensor | PackedSegments, actions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Values `[A, 1]`, log-probabilities `[A]` and entropies `[A]` of chosen tokens.

        :param obs: `PackedSegments` (one causal pass per segment), or rows `[A, L]` (one per row).
        :param actions: `[A]` int64.
        """
        packed = self._pack(obs)
        actions = actions.long().flatten()
        hidden = self._hidden(self.lm, packed)
        chosen, entropy = self._log_prob_and_entropy(hidden, packed, actions)
        if self.value_decoder is not None:
            hidden = self._hidden(self.value_decoder, packed)
        return self._values(hidden), chosen, entropy

    @torch.no_grad()
    def _log_probs_of(self, packed: PackedSegments, actions: Tensor) -> Tensor:
        """Log-probabilities `[A]` of chosen tokens as an update computes them."""

        def of_rows(rows: Tensor, part: slice) -> tuple[Tensor]:
            logits = self._logits(rows, packed[part], actions[part])
            return (chosen_log_probs(logits, actions[part]),)

        actions = actions.long().flatten()
        hidden = self._hidden(self.lm, self._pack(packed))
        return self._of_parts(of_rows, hidden)[0]

    def get_distribution(  # type: ignore[override]
        self, obs: Tensor | PackedSegments
    ) -> TokenDistribution:
        """The distribution over the next token at each row or acted position.

        :raises DivergenceError: if its probabilities are not numbers.
        """
        packed = self._pack(obs)
        # TRPO differentiates this twice, which of the attention kernels only the plain one allows.
        plain = sdpa_kernel(SDPBackend.MATH) if torch.is_grad_enabled() else nullcontext()
        with plain:
            logits = self._logits(self._hidden(self.lm, packed), packed)
        # Finite, with a probability of zero all the same: the gradient of a KL divergence between
        # two distributions (TRPO's) would be NaN where both are at -inf.
        logits = logits.clamp_min(torch.finfo(logits.dtype).min)
        weights = [weight for weight in self.lm.parameters() if weight.requires_grad]
        try:
            return TokenDistribution(logits, weights)
        except ValueError:  # torch's word for logits that are not numbers
            raise DivergenceError(
                f"the training diverged: the probabilities of tokens are not finite; {ADVICE}"
            ) from None

    def predict_values(self, obs: Tensor | PackedSegments) -> Tensor:  # type: ignore[override]
        """Values `[n, 1]` of rows `[n, L]`, or `[A, 1]` of acted positions."""
        shared = self.value_decoder is None
        if not isinstance(obs, PackedSegments):
            check_rows(obs)
        module = self.lm if self.value_decoder is None else self.value_decoder
        if isinstance(obs, PackedSegments) or torch.is_grad_enabled():
            return self._values(self._hidden(module, self._pack(obs)))
        decoder = self._decoder("rollout" if shared else "rollout value", module)
        if len(obs) == len(decoder.rows):
            hidden: Tensor | None = decoder(obs)
        else:
            hidden = decoder.peek(obs) if len(obs) == 1 else None
        if hidden is None:
            hidden = self._hidden(module, self._pack(obs))
        return self._values(hidden)

    def _predict(self, observation: Tensor, deterministic: bool = False) -> Tensor:  # type: ignore[override]
        """Tokens `[n]` for rows `[n, L]`, with a cache and draws of their own.

        So an evaluation in the middle of a rollout changes nothing in the training.
        """
        check_rows(observation)
        hidden = self._decoder("predict", self.lm)(observation)
        log_probs = self._logits(hidden, observation, caller="predict").log_softmax(-1)
        if deterministic:
            return log_probs.argmax(-1)
        return draw(log_probs, self._generator("predict", log_probs.device))

    def named_parameters(self, *arguments: Any, **keywords: Any) -> Iterator[tuple[str, Any]]:
        """torch's, of what learns: TRPO asks for the gradient of each."""
        named = super().named_parameters(*arguments, **keywords)
        return ((name, weight) for name, weight in named if weight.requires_grad)

    def _train(self, mode: bool) -> None:
        self.train(mode)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {
            "value_trunk": self.value_trunk,
            "dtype": str(self.dtype).removeprefix("torch."),
            "gradient_checkpointing": self.gradient_checkpointing,
            "micro_batch_tokens": self.micro_batch_tokens,
            "cuda_graphs": self.cuda_graphs,
        }
        return {**super()._get_constructor_parameters(), **own}

    def _pack(self, obs: Tensor | PackedSegments) -> PackedSegments:
        if isinstance(obs, PackedSegments):
            return obs
        check_rows(obs)
        return pack_rows(obs, row_lengths(obs, self.lm.tokenizer.pad_token_id))

    def _hidden(self, module: Trunk, packed: PackedSegments) -> Tensor:
        def read(part: PackedSegments) -> Tensor:
            with autocast(part.tokens.device, self.dtype):
                return module.packed(part.tokens, part.lengths, part.acted_index)

        budget = self.micro_batch_tokens
        if budget is None or len(packed.tokens) <= budget or not torch.is_grad_enabled():
            return read(packed)
        return torch.cat(
            [
                checkpoint(read, part, use_reentrant=False, preserve_rng_state=False)
                for part in parts_of(packed, budget)
            ]
        )

    def _log_prob_and_entropy(
        self, hidden: Tensor, packed: PackedSegments, actions: Tensor
    ) -> tuple[Tensor, ...]:
        """Log-probabilities and entropies `[A]` of chosen tokens, from hidden states `[A, d]`."""

        def of_rows(rows: Tensor, part: slice) -> tuple[Tensor, Tensor]:
            logits = self._logits(rows, packed[part], actions[part])
            return log_prob_and_entropy(logits, actions[part])

        return self._of_parts(of_rows, hidden)

    def _of_parts(
        self, of_rows: Callable[[Tensor, slice], tuple[Tensor, ...]], hidden: Tensor
    ) -> tuple[Tensor, ...]:
        """What is computed from the logits of some rows at a time; see `in_chunks`."""
        return in_chunks(of_rows, hidden, self.lm.config.vocab_size)

    def _values(self, hidden: Tensor) -> Tensor:
        """Values `[A, 1]` float32 from hidden states `[A, d]`, whose dtype is the trunk's."""
        return self.value_net(hidden.float())  # type: ignore[no-any-return]

    def _logits(
        self,
        hidden: Tensor,
        obs: Tensor | PackedSegments,
        keep: Tensor | None = None,
        *,
        caller: str | None = None,
    ) -> Tensor:
        """Logits `[A, v]` of the distribution that is sampled from.

        :param hidden: `[A, d]`, the hidden states at the acted positions of `obs`.
        :param keep: `[A]` int64, tokens once drawn, which stay in.
        :param caller: "rollout" or "predict" where `obs` are rows that a cache follows.
        """
        assert isinstance(self.action_space, spaces.Discrete)
        lm: Any = self._decoder(caller, self.lm).decoding if caller else self.lm
        with autocast(hidden.device, self.dtype):
            logits = lm.lm_head(hidden)[:, : self.action_space.n].float()
        # In place and unseen by autograd, which would copy twice to zero gradients that are zero.
        logits.detach().index_fill_(-1, self.excluded_ids, float("-inf"))
        if self.masks is not None:
            is_legal = self.masks.is_legal(obs, caller=caller or "")
            logits.detach().masked_fill_(~is_legal, float("-inf"))
        return self.sampling.filter(logits, keep=keep)
