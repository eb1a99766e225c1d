"""The lexicon's sentiment as a model of whole texts, which stands beside learned ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from textgym.reward_models.learned.learned_reward import LearnedReward, read_saved, shared_keywords
from textgym.reward_models.rules.lexicon import Lexicon
from textgym.saved_fields import SavedFields

KIND = "lexicon"


class LexiconScores(LearnedReward):
    """What `Lexicon()` says of a whole text: fitted to nothing, in units of some texts.

    :param keywords: `mean`, `std`, `name` and `include_prompt`, see `LearnedReward`.
    """

    kind = KIND

    def __init__(
        self,
        *,
        mean: float = 0.0,
        std: float = 1.0,
        name: str = KIND,
        include_prompt: bool = True,
    ) -> None:
        self.mean, self.std, self.name, self.include_prompt = mean, std, name, include_prompt
        self.lexicon = Lexicon()

    def raw(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], -1 to 1."""
        return np.asarray(self.lexicon([""] * len(texts), texts), np.float64)

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Nothing: the word list is the package's."""
        return {}

    @classmethod
    def from_pretrained(cls, directory: str | Path) -> Self:
        """What `save_pretrained` wrote.

        :raises InputError: naming the file, if it is missing, damaged or of another kind.
        """

        def read(place: Path, fields: SavedFields) -> Any:
            return cls(**shared_keywords(fields))

        saved: Self = read_saved(directory, {KIND}, read)
        return saved
