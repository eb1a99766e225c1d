"""What one step did to a batch of rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from textgym.envs.scoring import FinishedText


class StepResult(NamedTuple):
    """What one step did to n rows.

    :param rewards: float64 [n].
    :param is_terminated: bool [n]: stopped, or met the budget.
    :param is_truncated: bool [n]: met an outer limit or a full context; such a text is not scored.
    :param endings: the info of each row that ended.
    :param waiting: the texts of rows that ended whose score is still to come (see `Scores`).
    """

    rewards: np.ndarray
    is_terminated: np.ndarray
    is_truncated: np.ndarray
    endings: dict[int, dict[str, Any]]
    waiting: dict[int, FinishedText]

    def among(self, rows: Sequence[int], n: int) -> "StepResult":
        """The result for `n` rows of which only `rows` were stepped: 0 and False elsewhere."""
        whole = [np.zeros(n, dtype=array.dtype) for array in self[:3]]
        for array, found in zip(whole, self[:3], strict=True):
            array[list(rows)] = found
        endings = {rows[place]: ending for place, ending in self.endings.items()}
        waiting = {rows[place]: text for place, text in self.waiting.items()}
        return StepResult(whole[0], whole[1], whole[2], endings, waiting)
