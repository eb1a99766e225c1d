"""Which checkpoint of a training earned most: the mean of `reward/total` since the one before."""

import math
from typing import Any

from textgym.saved_fields import SavedFields


class BestReward:
    """Compares the rollouts between two checkpoints with those before."""

    def __init__(self) -> None:
        self.best = -math.inf
        self._sum, self._count = 0.0, 0

    def add(self, total: float) -> None:
        """What the episodes of a rollout earned on average, the KL term included."""
        self._sum, self._count = self._sum + total, self._count + 1

    def is_best(self) -> bool:
        """Whether the rollouts since the last call earned more than any before; begins anew."""
        mean = self._sum / self._count if self._count else -math.inf
        self._sum, self._count = 0.0, 0
        is_best = mean > self.best
        self.best = max(self.best, mean)
        return is_best

    def state_dict(self) -> dict[str, Any]:
        """JSON values; a best that there is not yet is null."""
        return {"best": self.best, "sum": self._sum, "count": self._count}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        fields = SavedFields(state, "state of the recorder: best_reward")
        self.best = fields.number("best") if fields.has("best") else -math.inf
        self._sum, self._count = fields.number("sum"), fields.whole("count")
