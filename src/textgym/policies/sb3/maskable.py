"""The policy of sb3-contrib's MaskablePPO: the text policy with its action masks.

MaskablePPO hands what `env.action_masks()` gave to every call of its policy. Ours finds the legal
tokens in the observation itself, so it needs none of that: the environment's numbers (states of the
constraint's automaton, one a row) are compared with the policy's own where the policy acts, and
otherwise ignored. That catches an environment and a policy that mean different constraints.
"""

from typing import Any

import numpy as np
import torch
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.shared_backward import TokenDistribution

States = np.ndarray | Tensor | None


# Registered rather than inherited: the two classes' constructors would call each other.
@MaskableActorCriticPolicy.register
class MaskableTextPolicy(TextActorCriticPolicy):
    """`TextActorCriticPolicy`, accepted by an unmodified MaskablePPO.

    Without a constraint it is the same policy. `action_masks` is always int `[n]`, as the
    environments' `action_masks()` gives it, or None.
    """

    def forward(
        self, obs: Tensor, deterministic: bool = False, action_masks: States = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `TextActorCriticPolicy`.

        :raises InputError: if the environment's states are not the policy's.
        """
        self._check(obs, action_masks, caller="rollout")
        return super().forward(obs, deterministic)

    def evaluate_actions(  # type: ignore[override]
        self, obs: Tensor | PackedSegments, actions: Tensor, action_masks: States = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `TextActorCriticPolicy`; `action_masks` was checked when the tokens were chosen."""
        return super().evaluate_actions(obs, actions)

    def get_distribution(  # type: ignore[override]
        self, obs: Tensor | PackedSegments, action_masks: States = None
    ) -> TokenDistribution:
        """See `TextActorCriticPolicy`; `action_masks` is not needed."""
        return super().get_distribution(obs)

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: States = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """SB3's `predict`; `action_masks` is compared with the policy's own states.

        :raises InputError: if they differ.
        """
        rows: Any = observation
        if action_masks is not None:
            rows = self.obs_to_tensor(observation)[0]
            self._check(rows, action_masks, caller="predict")
        return super().predict(observation, state, episode_start, deterministic)

    def _check(self, obs: Tensor, action_masks: States, *, caller: str) -> None:
        if action_masks is None:
            return
        given = torch.as_tensor(action_masks)
        if given.dtype == torch.bool or given.shape not in ((), obs.shape[:1]):
            raise InputError(
                f"expected action_masks() of a textgym environment, which gives {len(obs)} states "
                f"as numbers, got {given.dtype} with shape {tuple(given.shape)}: give the task a "
                "constraint instead of wrapping it in an ActionMasker"
            )
        if self.masks is None:
            is_same = not bool(given.any())
        else:
            is_same = self.masks.states(obs, caller=caller) == given.reshape(-1).tolist()
        if not is_same:
            raise InputError(
                "the environment and the policy mean different constraints: make the policy with "
                "this environment's observation space, or leave its masks out"
            )
