"""REINFORCE with a baseline: the plainest policy gradient, one step a rollout.

Williams (1992), "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement
Learning".
"""

from typing import Any

import numpy as np
from torch import Tensor

from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm
from textgym.agents.algorithms.losses import (
    aggregate,
    kept_mean,
    kept_std,
    leave_one_out_advantages,
)
from textgym.agents.rollouts.episode_collector import EpisodeBatch
from textgym.checks import check_numbers
from textgym.errors import InputError

BASELINES = ("batch", "running", "none")


class REINFORCE(CriticFreeAlgorithm):
    """REINFORCE with a baseline that no network has to learn.

    :param baseline: "batch": the mean reward of the rollout's other episodes; "running": a running
        mean of earlier rollouts; "none".
    :param baseline_decay: share of the running mean that stays at each rollout.
    :param normalize_advantage: mean 0 and deviation 1 over the rollout, as SB3's A2C can; the
        baseline then makes no difference.

    The others are those of `CriticFreeAlgorithm`; `num_generations` is 1 unless asked for more.
    """

    extra_state = (*CriticFreeAlgorithm.extra_state, "running_mean")

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: Any = 3e-4,
        *,
        baseline: str = "batch",
        baseline_decay: float = 0.9,
        normalize_advantage: bool = False,
        num_generations: int = 1,
        **keywords: Any,
    ) -> None:
        if baseline not in BASELINES:
            raise InputError(f"baseline must be one of {', '.join(BASELINES)}, got {baseline!r}")
        check_numbers({"baseline_decay": baseline_decay})
        self.baseline, self.baseline_decay = baseline, baseline_decay
        self.normalize_advantage = normalize_advantage
        self.running_mean: float | None = None
        super().__init__(policy, env, learning_rate, num_generations=num_generations, **keywords)

    def compute_advantages(self, totals: np.ndarray) -> np.ndarray:
        """Rewards minus the baseline."""
        is_kept = ~np.isnan(totals)
        if not is_kept.any():
            return totals
        mean = float(kept_mean(totals.reshape(1, -1))[0, 0])
        if self.baseline == "batch" and totals.size > 1:
            advantages = leave_one_out_advantages(totals.reshape(1, -1)).reshape(totals.shape)
        elif self.baseline == "running":
            earlier = mean if self.running_mean is None else self.running_mean
            advantages = totals - earlier
            self.running_mean = self.baseline_decay * earlier + (1 - self.baseline_decay) * mean
        else:
            advantages = totals.copy()
        if self.normalize_advantage:
            flat = advantages.reshape(1, -1)
            advantages = (advantages - kept_mean(flat)) / (kept_std(flat, ddof=0) + 1e-8)
        return advantages

    def compute_loss(
        self, log_prob: Tensor, batch: EpisodeBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """`-advantage · log π`, summed over each text.

        A token that was drawn before the last update (its episode was open then) counts with its
        own probability ratio; that of the tokens before it is left out, as PPO leaves it out.
        """
        ratio = (log_prob.detach() - batch.old_log_prob).exp()
        per_token = -(ratio * batch.advantages * log_prob)
        longest = int(self.observation_space.shape[0])  # type: ignore[index]
        loss = aggregate(per_token, batch.episode_of, batch.lengths, "dr_grpo", longest)
        return loss, {}
