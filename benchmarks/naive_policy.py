"""The obvious way: an actor-critic policy for Stable-Baselines3's own rollout buffer.

Every chosen token is a sample of its own, with its whole prefix as a padded row, and costs a
forward (and in the update a backward) pass over that row. Same decoder, same weights as the policy
it is compared with; only what is fed to it differs.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor, nn

from textgym.policies.language_model.causal_lm import CausalLM


class NaivePolicy(ActorCriticPolicy):
    """One forward pass over a padded row `[L]` for every token.

    :param model: the language model (used as it is, not copied).
    """

    def __init__(self, *args: Any, model: CausalLM, **kwargs: Any) -> None:
        self._spec = [model]  # in a list: no module may be set before super()
        super().__init__(*args, net_arch=[], **kwargs)

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        self.lm = self._spec.pop()
        self.value_net = nn.Linear(self.lm.config.hidden_size, 1)
        nn.init.zeros_(self.value_net.weight)
        nn.init.zeros_(self.value_net.bias)
        tokenizer = self.lm.tokenizer
        self.excluded_ids = torch.tensor([tokenizer.pad_token_id, tokenizer.bos_token_id])
        self.optimizer = self.optimizer_class(
            self.parameters(),
            lr=lr_schedule(1),  # type: ignore[call-arg]
            **self.optimizer_kwargs,
        )

    def _evaluate(self, obs: Tensor) -> tuple[CategoricalDistribution, Tensor]:
        last = (obs != self.lm.tokenizer.pad_token_id).sum(1) - 1
        hidden = self.lm.hidden_states(obs)[torch.arange(len(obs)), last]
        logits = self.lm.lm_head(hidden).index_fill(1, self.excluded_ids, float("-inf"))
        assert isinstance(self.action_space, spaces.Discrete)
        distribution = CategoricalDistribution(int(self.action_space.n))
        return distribution.proba_distribution(logits), self.value_net(hidden)

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Actions, values and log-probabilities of rows `[n, L]`."""
        distribution, values = self._evaluate(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, values, distribution.log_prob(actions)

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """Values, log-probabilities and entropies of chosen tokens."""
        distribution, values = self._evaluate(obs)
        return values, distribution.log_prob(actions), distribution.entropy()

    def predict_values(self, obs: Tensor) -> Tensor:  # type: ignore[override]
        """Values `[n, 1]`."""
        return self._evaluate(obs)[1]


class OneMinibatch(RolloutBuffer):
    """SB3's buffer, of which an epoch gives only the first minibatch: the rest cost as much."""

    def get(self, batch_size: int | None = None) -> Iterator[RolloutBufferSamples]:  # type: ignore[override]
        """One minibatch."""
        yield next(super().get(batch_size))
