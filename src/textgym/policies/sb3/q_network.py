"""The Q-network: Q-values of a language model.

A head of its own for every token would know nothing of the thousands that nobody ever tried, and
DQN takes the largest of them. So the Q-values are those for which the language model itself is the
policy that improves softly on the model it started from, π_0 (`prior`):

    π(a|s) ∝ π_0(a|s) exp(Q(s,a) / α)   ⇔   Q(s,a) = V(s) + α (log π(a|s) - log π_0(a|s))

with α in units of reward per nat (`q_temperature`) and V the value that makes π sum to one, learned
by a head (Schulman, Chen and Abbeel 2017, "Equivalence Between Policy Gradients and Soft
Q-Learning", section 3; Snell et al. 2022, "Offline RL for Natural Language Generation with
Implicit Language Q Learning", mix Q-values into a language model in the same way, with a model and
a Q-network apart). What follows from it: the first policy is the given model and the first Q-values
are zero; a token that nobody tried loses as the tried ones gain; playing costs one pass of one
model; and the language model that is exported is the agent, exactly.

Legend: `n` rows, `L` width of a row, `A` acted positions, `v` actions, `d` hidden size, `z` outputs
of the value head (1 in DQN).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.packing import PackedSegments, pack_rows, row_lengths
from textgym.policies.language_model.token_masks import TokenMasks
from textgym.policies.sb3.model_and_spaces import check_rows


@dataclass(frozen=True)
class BootstrapSegments(PackedSegments):
    """Where the targets of sampled transitions go on: what DQN calls the next observations.

    Only the positions whose value is asked for, each once: with returns to the episode's end these
    are few or none, and no pass is made over the others.

    :param source: `[n]` int64, for each transition the acted position (0 to A - 1) whose value
        follows it; A for a transition whose episode ends, after which nothing follows.
    """

    source: Tensor

    def __len__(self) -> int:
        return int(self.source.shape[0])

    def to(self, device: torch.device | str) -> "BootstrapSegments":
        """The same on another device."""
        packed = PackedSegments(self.tokens, self.lengths, self.acted_index).to(device)
        return BootstrapSegments(**vars(packed), source=self.source.to(device))


class TextQNetwork(nn.Module):
    """Q-values of all tokens, from a language model, its prior and a value head.

    :param lm: the policy itself.
    :param prior: the model that it started from; frozen, and no part of this module.
    :param q_temperature: α, reward per nat.
    :param n_values: z, outputs of the value head.
    :param masks: legal tokens; the others have no probability, in the policy as in the prior.
    :param excluded_ids: `[k]` int64, tokens that are never sampled.
    :param n_actions: tokens of the environment.
    """

    excluded_ids: Tensor

    def __init__(
        self,
        lm: LanguageModel,
        prior: LanguageModel,
        *,
        q_temperature: float,
        excluded_ids: Tensor,
        n_actions: int,
        n_values: int = 1,
        masks: TokenMasks | None = None,
    ) -> None:
        super().__init__()
        self.lm, self.masks = lm, masks
        self.q_temperature, self.n_actions = q_temperature, n_actions
        self.value_net = nn.Linear(lm.config.hidden_size, n_values)
        nn.init.zeros_(self.value_net.weight)
        nn.init.zeros_(self.value_net.bias)
        # In a tuple, unseen by torch: SB3's target update moves all parameters of this module.
        self._prior = (prior,)
        self.register_buffer("excluded_ids", excluded_ids, persistent=False)

    def forward(self, obs: Tensor | PackedSegments) -> Tensor:
        """Q-values `[A, v]` float32 at each row of `[n, L]`, or at each acted position.

        A token that is never sampled or illegal has the value of its state: finite, since one that
        came from elsewhere (a uniform warm-up) may stand in the replay buffer.
        """
        values, _, gains = self.parts(obs)
        return values + gains

    def parts(self, obs: Tensor | PackedSegments) -> tuple[Tensor, Tensor, Tensor]:
        """Values `[A, z]`, log-probabilities of the policy `[A, v]`, and Q - V `[A, v]`."""
        packed = obs
        if not isinstance(packed, PackedSegments):
            check_rows(packed)
            packed = pack_rows(packed, row_lengths(packed, self.lm.tokenizer.pad_token_id))
        is_legal = None if self.masks is None else self.masks.is_legal(packed)
        hidden = _hidden(self.lm, packed)
        log_probs = self._logits(self.lm, hidden, is_legal).log_softmax(-1)
        with torch.no_grad():
            prior = self._prior[0]
            expected = self._logits(prior, _hidden(prior, packed), is_legal).log_softmax(-1)
        # The values' errors move their head alone: in the trunk their gradient would be 1/α times
        # the policy's, and next to nothing would be learned.
        values = self.value_net(hidden.detach().float())
        gains = self.q_temperature * (log_probs - expected)
        gains = gains.index_fill(-1, self.excluded_ids, 0.0)
        return values, log_probs, gains if is_legal is None else gains.masked_fill(~is_legal, 0.0)

    def logits(self, hidden: Tensor, rows: Tensor, *, caller: str) -> Tensor:
        """Logits `[n, v]` float32 of the policy's next token, from which it is drawn.

        :param hidden: `[n, d]`, the hidden states at the last tokens of `rows [n, L]`.
        :param caller: who asks; see `TokenMasks.is_legal`.
        """
        is_legal = None if self.masks is None else self.masks.is_legal(rows, caller=caller)
        return self._logits(self.lm, hidden, is_legal)

    def _logits(self, lm: LanguageModel, hidden: Tensor, is_legal: Tensor | None) -> Tensor:
        """Excluded tokens are at the lowest finite number.

        That is a probability of exactly zero, and a difference of two logarithms that is a number.
        """
        logits: Tensor = lm.lm_head(hidden)[:, : self.n_actions].float()
        lowest = torch.finfo(logits.dtype).min
        # In place and unseen by autograd, which would copy twice to zero gradients that are zero.
        logits.detach().index_fill_(-1, self.excluded_ids, lowest)
        if is_legal is not None:
            logits.detach().masked_fill_(~is_legal, lowest)
        return logits


class TargetQNetwork(TextQNetwork):
    """The network that targets come from: the value of the token that the policy likes best.

    That is the token which `predict(deterministic=True)` would choose, argmax π_0 exp(Q/α), and not
    the largest Q-value of all: among thousands of tokens that is one with an accidental ratio.
    """

    def forward(self, obs: Tensor | PackedSegments) -> Tensor:
        """Q-values `[n, 1]` of the best token: the one column of which SB3 takes the largest.

        :param obs: rows `[n, L]`, `PackedSegments`, or `BootstrapSegments`, for which the value is
            0 where nothing follows.
        """
        best = self.best(obs)
        return best if not isinstance(obs, BootstrapSegments) else _spread(best, obs.source)

    def best(self, obs: Tensor | PackedSegments) -> Tensor:
        """Q-values `[A, z]` of the policy's likeliest token."""
        if isinstance(obs, PackedSegments) and not len(obs.acted_index):
            return self.value_net.weight.new_zeros(0, self.value_net.out_features)
        values, log_probs, gains = self.parts(obs)
        return values + gains.gather(-1, log_probs.argmax(-1, keepdim=True))


def _spread(best: Tensor, source: Tensor) -> Tensor:
    """`best [A, z]` and `source [n]` int64 → `[n, z]`, 0 where the source is A."""
    return torch.cat([best, best.new_zeros(1, best.shape[-1])]).index_select(0, source)


def _hidden(lm: LanguageModel, packed: PackedSegments) -> Tensor:
    return lm.packed(packed.tokens, packed.lengths, packed.acted_index)
