"""NLPO: PPO whose choices are those that an older copy of the policy thinks likely.

Ramamurthy et al. (2023), "Is Reinforcement Learning (Not) for Natural Language Processing?:
Benchmarks, Baselines, and Building Blocks for Natural Language Policy Optimization", algorithm 1.
"""

from typing import Any, Self

from stable_baselines3 import PPO

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.policies.sb3.top_p_mask import TopPMaskPolicy


class NLPO(PPO):
    """Stable-Baselines3's PPO on a `TopPMaskPolicy`, whose mask it renews.

    :param mask_update_interval: rollouts between two renewals of the mask.

    The others are PPO's own; `mask_top_p` is the policy's.
    """

    extra_state = ("rollouts_under_mask",)

    def __init__(
        self,
        policy: Any,
        env: Any,
        learning_rate: Any = 3e-4,
        *,
        mask_update_interval: int = 5,
        **keywords: Any,
    ) -> None:
        check_numbers({"mask_update_interval": mask_update_interval})
        self.mask_update_interval = mask_update_interval
        self.rollouts_under_mask = 0
        super().__init__(policy, env, learning_rate, **keywords)
        if keywords.get("_init_setup_model", True) and not isinstance(self.policy, TopPMaskPolicy):
            raise InputError(
                f"NLPO needs a policy with a mask: pass TopPMaskPolicy, got "
                f"{type(self.policy).__name__}"
            )

    def learn(self, total_timesteps: int, *arguments: Any, **keywords: Any) -> Self:
        """PPO's; TensorBoard's folder is named for the class."""
        if len(arguments) < 3:
            keywords.setdefault("tb_log_name", "NLPO")
        return super().learn(total_timesteps, *arguments, **keywords)

    def train(self) -> None:
        """PPO's update, and after it the mask's renewal if that is due."""
        super().train()
        assert isinstance(self.policy, TopPMaskPolicy)
        self.rollouts_under_mask += 1
        if self.rollouts_under_mask >= self.mask_update_interval:
            self.policy.refresh_mask()
            self.rollouts_under_mask = 0
        self.logger.record("train/mask_age", self.rollouts_under_mask)
