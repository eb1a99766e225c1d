"""The episode buffer as sb3-contrib's MaskablePPO wants it.

sb3-contrib's own keeps a mask as wide as the vocabulary for every step: at 4,096 tokens, 32 rows of
96 steps take 50 MB of float32. Here nothing is kept of masks, since the policy finds the legal
tokens in the observation; what `action_masks()` gave was compared with it when the tokens were
chosen.
"""

from typing import Any

import numpy as np
import torch
from sb3_contrib.common.maskable.buffers import MaskableRolloutBuffer, MaskableRolloutBufferSamples

from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer


class MaskableEpisodeRolloutBuffer(EpisodeRolloutBuffer, MaskableRolloutBuffer):  # type: ignore[misc]
    """`EpisodeRolloutBuffer`, accepted by an unmodified MaskablePPO.

    Pass it as `rollout_buffer_class`, with `MaskableTextPolicy`. `action_masks` of its samples is
    None.
    """

    def add(  # type: ignore[override]
        self,
        obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        episode_start: np.ndarray,
        value: torch.Tensor,
        log_prob: torch.Tensor,
        action_masks: np.ndarray | None = None,
    ) -> None:
        """One step of every row; `action_masks` is not kept."""
        EpisodeRolloutBuffer.add(self, obs, action, reward, episode_start, value, log_prob)

    def _parts(self, order: np.ndarray, batch_size: int) -> list[np.ndarray]:
        """As the base's, but none of a single token, by whose deviation MaskablePPO divides."""
        parts = super()._parts(order, batch_size)
        sizes = [sum(self.segments[i].end - self.segments[i].start for i in p) for p in parts]
        for i in range(len(parts) - 1, 0, -1):
            if min(sizes[i - 1 : i + 1]) < 2:
                parts[i - 1 : i + 1] = [np.concatenate(parts[i - 1 : i + 1])]
                sizes[i - 1 : i + 1] = [sum(sizes[i - 1 : i + 1])]
        return parts

    def _samples(self, part: np.ndarray) -> Any:
        return MaskableRolloutBufferSamples(*super()._samples(part), action_masks=None)  # type: ignore[arg-type]
