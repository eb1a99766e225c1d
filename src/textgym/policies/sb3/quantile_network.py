"""The quantile network: sb3-contrib's unmodified QR-DQN writes text.

QR-DQN (Dabney et al. 2018, "Distributional Reinforcement Learning with Quantile Regression") learns
z quantiles of the return for every token: its own head would be z times as large as that of the
language model, 210 million weights for 200 quantiles, 4,096 tokens and a width of 256. Here the
quantiles belong to the state, and a token moves all of them by what it gains over the state:

    θ_i(s,a) = V_i(s) + α (log π(a|s) - log π_0(a|s)),   i = 1 … z

which is z · (d + 1) weights. What is given up: two tokens of one state differ in how much they
promise, not in how uncertain it is.

Legend: as in `q_network`; `z` quantiles.
"""

from collections.abc import Callable
from typing import Any

from gymnasium import spaces
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from torch import Tensor

from textgym.errors import InputError
from textgym.policies.language_model.packing import PackedSegments
from textgym.policies.sb3.q_network import TargetQNetwork, TextQNetwork
from textgym.policies.sb3.q_policy import SoftQPolicy


class TextQuantileNetwork(TextQNetwork):
    """Quantiles of all tokens."""

    def forward(self, obs: Tensor | PackedSegments) -> Tensor:
        """Quantiles `[A, z, v]` float32 at each row of `[n, L]`, or at each acted position."""
        values, _, gains = self.parts(obs)
        return values[:, :, None] + gains[:, None, :]


class TargetQuantileNetwork(TargetQNetwork):
    """The network that targets come from: the quantiles of the policy's likeliest token."""

    def forward(self, obs: Tensor | PackedSegments) -> Tensor:
        """Quantiles `[n, z, 1]`; see `TargetQNetwork`."""
        return super().forward(obs)[..., None]


class TextQuantilePolicy(SoftQPolicy, QRDQNPolicy):  # type: ignore[misc]  # SB3's own names differ
    """The text policy of sb3-contrib's QR-DQN.

    :param n_quantiles: z. SB3 takes the quantiles of all tokens together, so memory and time of an
        update grow as batch · z · v.
    :param keywords: those of `SoftQPolicy`.
    :raises InputError: as `SoftQPolicy`, and without a quantile.
    """

    network_name = "quantile_net"
    network_class = TextQuantileNetwork
    target_class = TargetQuantileNetwork

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        lr_schedule: Callable[[float], float],
        *,
        n_quantiles: int = 8,
        **keywords: Any,
    ) -> None:
        if n_quantiles < 1:
            raise InputError(f"n_quantiles must be at least 1, got {n_quantiles}")
        super().__init__(
            observation_space, action_space, lr_schedule, n_values=n_quantiles, **keywords
        )
        self.n_quantiles = n_quantiles  # SB3's constructor has left its own default there

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "n_quantiles": self.n_quantiles}
