"""Best-of-n with expert iteration: imitate the best of several completions, again and again.

Anthony et al. (2017), "Thinking Fast and Slow with Deep Learning and Tree Search"; Dong et al.
(2023), "RAFT: Reward rAnked FineTuning for Generative Foundation Model Alignment".
"""

from typing import Any

import numpy as np
from torch import Tensor

from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm
from textgym.agents.algorithms.losses import aggregate, best_and_worst
from textgym.agents.rollouts.episode_collector import EpisodeBatch
from textgym.errors import InputError


class BestOfN(CriticFreeAlgorithm):
    """Maximum likelihood on the best completion of each group.

    A group whose completions all have the same reward says nothing and is passed over. There is no
    KL term: fewer epochs, a smaller learning rate and a smaller `num_generations` keep the policy
    near its start.

    :param num_generations: n.

    The others are those of `CriticFreeAlgorithm`.
    """

    min_generations = 2

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: Any = 3e-4,
        *,
        num_generations: int = 4,
        **keywords: Any,
    ) -> None:
        if keywords.get("kl") is not None:
            raise InputError("best-of-n has no KL term: leave kl out, or take another algorithm")
        super().__init__(policy, env, learning_rate, num_generations=num_generations, **keywords)

    def compute_advantages(self, totals: np.ndarray) -> np.ndarray:
        """1 for the first of the best of a group, 0 for the others."""
        is_best = np.zeros_like(totals)
        best, _, is_equal = best_and_worst(totals)
        is_best[np.arange(len(totals)), best] = 1.0
        is_best[is_equal] = 0.0
        return is_best

    def _rollout_scored(self) -> None:
        """Keep the chosen episodes only: no pass is spent on the others."""
        chosen = np.flatnonzero(self.advantages)
        self.episodes = [self.episodes[i] for i in chosen]
        self.advantages = self.advantages[chosen]

    def compute_loss(
        self, log_prob: Tensor, batch: EpisodeBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """Negative log-likelihood in nats per token."""
        return aggregate(-log_prob, batch.episode_of, batch.lengths, "dapo", 1), {}
