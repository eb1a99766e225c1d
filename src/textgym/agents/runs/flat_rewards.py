"""Telling the user that all texts earn the same, so that nothing is learned."""

import warnings
from collections.abc import Sequence
from typing import Any

from textgym.saved_fields import SavedFields


class FlatRewards:
    """Warns once where every episode of several rollouts in a row earned the same reward.

    :param rollouts: how many; with fewer than `episodes` in them it waits for more.
    """

    def __init__(self, rollouts: int = 5, episodes: int = 64) -> None:
        self.rollouts, self.episodes = rollouts, episodes
        self._reward: float | None = None
        self._rollouts = self._episodes = 0
        self._has_warned = False

    def state_dict(self) -> dict[str, Any]:
        """What was counted so far."""
        return {
            "reward": self._reward,
            "rollouts": self._rollouts,
            "episodes": self._episodes,
            "has_warned": self._has_warned,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        fields = SavedFields(state, "state of the recorder: flat_rewards")
        self._reward = fields.number("reward") if fields.has("reward") else None
        self._rollouts, self._episodes = fields.whole("rollouts"), fields.whole("episodes")
        self._has_warned = fields.flag("has_warned")

    def add(self, rewards: Sequence[float]) -> None:
        """The rewards of the episodes that ended in a rollout; maybe none."""
        if not len(rewards) or self._has_warned:
            return
        if min(rewards) != max(rewards) or rewards[0] != self._reward:
            self._rollouts = self._episodes = 0
        self._reward = rewards[0]
        if min(rewards) == max(rewards):
            self._rollouts += 1
            self._episodes += len(rewards)
        if self._rollouts >= self.rollouts and self._episodes >= self.episodes:
            self._has_warned = True
            warnings.warn(
                f"all {self._episodes} texts of the last {self._rollouts} rollouts earned the same "
                f"reward ({self._reward:g}), so there is nothing to learn from it. Unless it is "
                "the best: read the sample texts, then change the reward, the prompts or the "
                "starting model, or raise temperature",
                stacklevel=2,
            )
