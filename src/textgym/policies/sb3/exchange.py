"""What the policy and the buffer of one agent say to each other.

Stable-Baselines3 makes both, tells neither of the other, and offers no call between them; what it
gives to both is one and the same observation space. So this one object hangs there, as `exchange`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gymnasium import spaces
from torch import Tensor

from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.packing import PackedSegments


@dataclass
class Exchange:
    """Belongs to one agent.

    :param reads_segments: said by a policy that reads `PackedSegments`; without it an episode
        buffer refuses the first step, before a whole rollout was played in vain.
    :param stored_steps: said by a replay buffer, counted with each step of the environment; -1
        without one. So the policy tells the training's `predict` from an evaluation's.
    :param adapted: said by a policy whose model has an adapter: the model, which without it is the
        reference of the KL term.
    :param log_probs_of: said by a policy whose sampler differs from what learns, as in bfloat16:
        log-probabilities `[A]` of chosen tokens in the precision of an update.
    """

    reads_segments: bool = False
    stored_steps: int = -1
    adapted: LanguageModel | None = None
    log_probs_of: Callable[[PackedSegments, Tensor], Tensor] | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without the policy: SB3 pickles observation spaces, and the policy's weights apart."""
        return {**vars(self), "adapted": None, "log_probs_of": None}

    @classmethod
    def of(cls, observation_space: spaces.Space[Any]) -> "Exchange":
        """That of a space, which is made when it is first asked for."""
        found: Exchange = vars(observation_space).setdefault("exchange", cls())
        return found
