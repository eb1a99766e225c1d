"""The log-probabilities of tokens that were chosen, under any language model."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from textgym.policies.language_model.chunks import in_chunks
from textgym.policies.language_model.generation import never_sampled
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.language_model.sampling import Sampling, chosen_log_probs
from textgym.policies.language_model.token_masks import TokenMasks

if TYPE_CHECKING:
    from textgym.policies.language_model.language_model import LanguageModel


@torch.no_grad()
def token_log_probs(
    lm: "LanguageModel",
    packed: PackedSegments,
    actions: Tensor,
    sampling: Sampling,
    *,
    masks: TokenMasks | None = None,
    states: list[int] | None = None,
    keep_actions: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Log-probabilities `[A]` of the tokens chosen at `A` acted positions, in one pass.

    :param actions: `[A]` int64.
    :param sampling: makes the distribution that the tokens were drawn from.
    :param masks: legal tokens, if they were chosen under a constraint.
    :param states: `A` states of the masks' automaton; None: as the masks find them in `packed`.
    :param keep_actions: a chosen token counts as inside top-k and top-p, whatever rounding says.
    :param dtype: in which the logits are normalized.
    """
    excluded_ids = never_sampled(lm)
    if masks is not None and states is None:
        states = masks.states(packed)

    def of_rows(hidden: Tensor, part: slice) -> tuple[Tensor]:
        logits, chosen = lm.lm_head(hidden).to(dtype), actions[part]
        if masks is not None and states is not None:
            logits = masks.apply_states(logits, states[part])
        logits = sampling.filter(logits, excluded_ids, keep=chosen if keep_actions else None)
        return (chosen_log_probs(logits, chosen),)

    hidden = lm.packed(packed.tokens, packed.lengths, packed.acted_index)
    return in_chunks(of_rows, hidden, lm.config.vocab_size)[0]
