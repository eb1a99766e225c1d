"""RLOO: the policy gradient with the mean reward of the prompt's other completions as baseline.

Kool et al. (2019), "Buy 4 REINFORCE Samples, Get a Baseline for Free!"; Ahmadian et al. (2024),
"Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs".
"""

from typing import Any

import numpy as np
from torch import Tensor

from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm, ratio_figures
from textgym.agents.algorithms.losses import aggregate, clipped_surrogate, leave_one_out_advantages
from textgym.agents.rollouts.episode_collector import EpisodeBatch
from textgym.checks import check_positive


class RLOO(CriticFreeAlgorithm):
    """REINFORCE leave-one-out.

    :param clip_range: the probability ratio counts from 1 - clip_range to 1 + clip_range; with
        `n_epochs=1` and one minibatch the ratio is 1, but for tokens drawn before the last update
        (their episodes were open then).

    The others are those of `CriticFreeAlgorithm`.
    """

    min_generations = 2

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: Any = 3e-4,
        *,
        clip_range: float = 0.2,
        **keywords: Any,
    ) -> None:
        check_positive("clip_range", clip_range, below=1.0)
        self.clip_range = clip_range
        super().__init__(policy, env, learning_rate, **keywords)

    def compute_advantages(self, totals: np.ndarray) -> np.ndarray:
        """Rewards minus the mean of the group's other rewards."""
        return leave_one_out_advantages(totals)

    def compute_loss(
        self, log_prob: Tensor, batch: EpisodeBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """The clipped surrogate, summed over each text."""
        log_ratio = log_prob - batch.old_log_prob
        clip = self.clip_range
        per_token = clipped_surrogate(log_ratio, batch.advantages, clip, clip)
        longest = int(self.observation_space.shape[0])  # type: ignore[index]
        loss = aggregate(per_token, batch.episode_of, batch.lengths, "dr_grpo", longest)
        return loss, ratio_figures(log_ratio, clip, clip)
