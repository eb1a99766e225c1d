"""GRPO: PPO's clipped loss with the group's mean reward in place of a critic.

Shao et al. (2024), "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language
Models", section 4.1, with the variants that its users ask for as keywords.
"""

from typing import Any

import numpy as np
from torch import Tensor

from textgym.agents.algorithms.critic_free import CriticFreeAlgorithm, ratio_figures
from textgym.agents.algorithms.losses import (
    LOSS_TYPES,
    SCALES,
    aggregate,
    clipped_surrogate,
    group_advantages,
    kl_in_loss,
    sequence_log_ratio,
)
from textgym.agents.rollouts.episode_collector import EpisodeBatch
from textgym.checks import check_numbers, check_positive
from textgym.errors import InputError


class GRPO(CriticFreeAlgorithm):
    """Group relative policy optimisation.

    :param clip_range: the probability ratio counts from 1 - clip_range to 1 + `epsilon_high`.
    :param epsilon_high: the upper side; None: as `clip_range` (DAPO's "clip higher": 0.28).
    :param scale_rewards: "none", or divide advantages by the standard deviation of the "group"
        (the paper's; with the KL in the loss it makes β another one for each prompt) or of the
        "batch".
    :param loss_type: "dr_grpo" (the policy gradient as it is), "grpo" (the paper's mean over each
        text) or "dapo" (mean over all tokens).
    :param importance_sampling_level: "token", or "sequence" (GSPO).
    :param kl_in: "reward" (exact with `kl_estimator` "k1"; the default), or "loss" (the paper's,
        with "k3").
    :param max_completion_length: the constant of "dr_grpo"; None: the width of a row.

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
        epsilon_high: float | None = None,
        scale_rewards: str = "none",
        loss_type: str = "dr_grpo",
        importance_sampling_level: str = "token",
        kl_in: str = "reward",
        max_completion_length: int | None = None,
        **keywords: Any,
    ) -> None:
        check_positive("clip_range", clip_range, below=1.0)
        check_numbers(
            {"epsilon_high": epsilon_high, "max_completion_length": max_completion_length}
        )
        for name, value, known in (
            ("scale_rewards", scale_rewards, SCALES),
            ("loss_type", loss_type, LOSS_TYPES),
            ("importance_sampling_level", importance_sampling_level, ("token", "sequence")),
            ("kl_in", kl_in, ("reward", "loss")),
        ):
            if value not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.clip_range, self.epsilon_high = clip_range, epsilon_high
        self.scale_rewards, self.loss_type = scale_rewards, loss_type
        self.importance_sampling_level, self.kl_in = importance_sampling_level, kl_in
        self.max_completion_length = max_completion_length
        super().__init__(policy, env, learning_rate, **keywords)
        if self.kl is not None and kl_in == "loss" and self.kl.estimator == "k1":
            raise InputError(
                "a KL term in the loss needs kl_estimator 'k2' or 'k3', got 'k1', whose gradient "
                "is zero on average"
            )

    @property
    def kl_is_in_reward(self) -> bool:
        """See the class."""
        return self.kl_in == "reward"

    def compute_advantages(self, totals: np.ndarray) -> np.ndarray:
        """Rewards minus their group's mean, scaled if asked."""
        return group_advantages(totals, scale_rewards=self.scale_rewards)

    def compute_loss(
        self, log_prob: Tensor, batch: EpisodeBatch
    ) -> tuple[Tensor, dict[str, float]]:
        """The clipped surrogate, with a KL term if that stands in the loss."""
        log_ratio = log_prob - batch.old_log_prob
        if self.importance_sampling_level == "sequence":
            log_ratio = sequence_log_ratio(log_ratio, batch.episode_of, batch.lengths)
        high = self.clip_range if self.epsilon_high is None else self.epsilon_high
        per_token = clipped_surrogate(log_ratio, batch.advantages, self.clip_range, high)
        figures = ratio_figures(log_ratio, self.clip_range, high)
        reference = batch.reference_log_prob
        if self.kl is not None and reference is not None and not self.kl_is_in_reward:
            kl = kl_in_loss(log_prob, reference, self.kl.estimator)
            per_token = per_token + self.kl.coefficient * kl
            figures["kl_loss"] = float(kl.detach().mean())
        longest = self.max_completion_length or self.observation_space.shape[0]  # type: ignore[index]
        loss = aggregate(per_token, batch.episode_of, batch.lengths, self.loss_type, longest)
        return loss, figures
