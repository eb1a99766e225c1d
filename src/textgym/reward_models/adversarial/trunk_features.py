"""Mean hidden states of a frozen language model as features of texts.

Legend: `b` texts, `d` hidden size.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from textgym.reward_models.learned.trunk_reward import TrunkRewardModel

SAMPLE = 512  # texts that say what is usual


class TrunkFeatures:
    """Each row is standardised on texts of a corpus, and divided by √d: its norm is about 1.

    :param trunk: as `TrunkRewardModel` takes it; it is read, never changed.
    :param usual: texts of the corpus; the first 512 are read.
    """

    def __init__(self, trunk: nn.Module, usual: Sequence[str]) -> None:
        self._model = TrunkRewardModel(trunk)
        found = self._model.features(list(usual[:SAMPLE])).astype(np.float64)
        self.size = found.shape[1]
        self.name = f"trunk-{self.size}"
        self._mean, self._std = found.mean(axis=0), np.maximum(found.std(axis=0), 1e-6)

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b, d]."""
        found = self._model.features(texts).astype(np.float64)
        return np.asarray((found - self._mean) / self._std / self.size**0.5)
