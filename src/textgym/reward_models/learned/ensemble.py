"""Several standardised reward models as one: the mean of their scores, standardised again.

Models that err in different ways rank better together than any of them: a trunk reads the whole
text, n-grams know single words.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.learned.learned_reward import LearnedReward, read_saved, shared_keywords
from textgym.saved_fields import SavedFields

KIND = "ensemble"
MOST = 16  # members that a directory may name
_FOLDER = re.compile(r"member-\d{1,2}")


class Scorer(Protocol):
    """A learned reward model with scores in standard deviations of some texts."""

    name: str

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], standardised scores of whole texts."""

    def save_pretrained(self, directory: str | Path) -> None:
        """Write it, so that it can be opened again."""


class Ensemble(LearnedReward):
    """The mean of its members' standardised scores.

    :param members: at least one.
    :param mean: subtracted from the members' mean score, see `standardise`.
    :param std: divides it; above 0.
    :raises InputError: without members, or for a std that is not positive.
    """

    kind = KIND

    def __init__(
        self,
        members: Sequence[Scorer],
        *,
        mean: float = 0.0,
        std: float = 1.0,
        name: str = KIND,
        include_prompt: bool = True,
    ) -> None:
        if not members or not std > 0:
            raise InputError(
                f"an ensemble needs members and std > 0, got {len(members)} and std={std}"
            )
        self.members, self.name, self.include_prompt = list(members), name, include_prompt
        self.mean, self.std = float(mean), float(std)

    def raw(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], the members' mean score of whole texts."""
        return np.asarray(np.mean([member.score(texts) for member in self.members], axis=0))

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Each member in a folder of its own."""
        folders = [f"member-{place}" for place in range(len(self.members))]
        for member, name in zip(self.members, folders, strict=True):
            member.save_pretrained(folder / name)
        return {"members": folders}

    @classmethod
    def from_pretrained(cls, directory: str | Path, open_member: Callable[[Path], Any]) -> Self:
        """The saved ensemble.

        :param open_member: opens the reward model in a directory.
        :raises InputError: naming the file, if it is missing, damaged or of another kind.
        """

        def read(place: Path, fields: SavedFields) -> Any:
            folders = fields.texts("members")
            if not 0 < len(folders) <= MOST or any(not _FOLDER.fullmatch(name) for name in folders):
                raise fields.error("members", f"1 to {MOST} folders such as member-0")
            members = [open_member(place / name) for name in folders]
            if not all(callable(getattr(member, "score", None)) for member in members):
                raise fields.error("members", "reward models that score whole texts")
            return cls(members, **shared_keywords(fields))

        saved: Self = read_saved(directory, {KIND}, read)
        return saved
