"""NLPO's action mask: a policy may choose only what an older copy of itself thinks likely.

Ramamurthy et al. (2023), "Is Reinforcement Learning (Not) for Natural Language Processing?",
section 4. The mask counts wherever the distribution is used: in sampling as in the loss.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.language_model.precision import autocast
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy


class TopPMaskPolicy(TextActorCriticPolicy):
    """`TextActorCriticPolicy` over the smallest set of tokens that holds `mask_top_p` of the
    probability under a copy of its language model, which `refresh_mask` renews.

    :param mask_top_p: probability held by the tokens that may be chosen; 1 allows all.
    :raises InputError: for another `mask_top_p`, or together with `top_k` or `top_p`.
    """

    def __init__(self, *arguments: Any, mask_top_p: float = 0.9, **keywords: Any) -> None:
        if not 0 < mask_top_p <= 1:
            raise InputError(f"mask_top_p must be above 0 and at most 1, got {mask_top_p}")
        if keywords.get("top_k", 0) != 0 or keywords.get("top_p", 1.0) != 1.0:
            raise InputError("mask_top_p takes the place of top_k and top_p: give it alone")
        self.mask_top_p = mask_top_p
        super().__init__(*arguments, **keywords)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.mask_lm = self.lm.frozen_reference()

    @torch.no_grad()
    def refresh_mask(self) -> None:
        """Let the mask follow the policy as it is now. Only between rollouts: a rollout is learned
        from under the mask that it was drawn with."""
        self.mask_lm.load_state_dict(self.lm.state_dict())
        for name, decoder in self._decoders.items():
            if name.endswith(" mask"):
                decoder.drop()

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """As the base class's, under the mask."""
        actions, values, log_probs = super().forward(obs, deterministic)
        if "rollout mask" in self._decoders:
            self._decoders["rollout mask"].expect(actions)
        return actions, values, log_probs

    def _of_parts(
        self, of_rows: Callable[[Tensor, slice], tuple[Tensor, ...]], hidden: Tensor
    ) -> tuple[Tensor, ...]:
        """All at once: in chunks the mask's model would read all tokens for each of them."""
        return of_rows(hidden, slice(0, len(hidden)))

    def _logits(
        self,
        hidden: Tensor,
        obs: Tensor | PackedSegments,
        keep: Tensor | None = None,
        *,
        caller: str | None = None,
    ) -> Tensor:
        logits = super()._logits(hidden, obs, keep, caller=caller)
        if self.mask_top_p == 1.0:
            return logits
        is_out = self._likely(obs, logits, keep, caller).isneginf()
        return logits.masked_fill(is_out, float("-inf"))

    def narrow(self, logits: Tensor, rows: Tensor) -> Tensor:
        """As while playing: tokens that the mask puts out at -inf."""
        if self.mask_top_p == 1.0:
            return logits
        is_out = self._likely(rows, logits, None, "evaluation").isneginf()
        return logits.masked_fill(is_out, float("-inf"))

    @torch.no_grad()
    def _likely(
        self,
        obs: Tensor | PackedSegments,
        logits: Tensor,
        keep: Tensor | None,
        caller: str | None,
    ) -> Tensor:
        """The mask model's logits `[A, v]`, at -inf outside its likeliest tokens."""
        if caller is None or isinstance(obs, PackedSegments):
            hidden = self._hidden(self.mask_lm, self._pack(obs))
        else:
            hidden = self._decoder(f"{caller} mask", self.mask_lm)(obs)
        with autocast(hidden.device, self.dtype):
            theirs = self.mask_lm.lm_head(hidden)[:, : logits.shape[-1]].float()
        # What the policy cannot choose anyway takes no share of the probability.
        theirs = theirs.masked_fill(logits.isneginf(), float("-inf"))
        temperature = self.sampling.temperature
        return Sampling(temperature=temperature, top_p=self.mask_top_p).filter(theirs, keep=keep)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "mask_top_p": self.mask_top_p}
