"""Several standardised reward models as one: the mean of their scores, standardised again.

Models that err in different ways rank better together than any of them: a trunk reads the whole
text, n-grams know single words. Where they disagree nobody knows: mean - k · standard deviation
pays less for such texts (Coste et al. 2024, "Reward Model Ensembles Help Mitigate
Overoptimization").
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.learned.learned_reward import LearnedReward, read_saved, shared_keywords
from textgym.rewards import RewardOutput
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
    :param weights: of the members, not negative, not all 0; default: equal ones. Their sum does not
        matter.
    :param penalty: how many (weighted) standard deviations of the members' scores are taken off
        their mean; every answer then has `mean` and `disagreement` as components, with 0 too. None
        for a plain mean.
    :param mean: subtracted from the members' mean score, see `standardise`.
    :param std: divides it; above 0.
    :raises InputError: without members, for a std that is not positive, a penalty below 0, or
        weights that do not fit.
    """

    kind = KIND

    def __init__(
        self,
        members: Sequence[Scorer],
        *,
        weights: Sequence[float] | None = None,
        penalty: float | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        name: str = KIND,
        include_prompt: bool = True,
    ) -> None:
        if not members or not std > 0:
            raise InputError(
                f"an ensemble needs members and std > 0, got {len(members)} and std={std}"
            )
        shares = np.asarray([1.0] * len(members) if weights is None else weights, np.float64)
        if len(shares) != len(members) or not (shares >= 0).all() or not 0 < shares.sum() < np.inf:
            raise InputError(
                f"an ensemble of {len(members)} needs as many weights, not negative and not all 0, "
                f"got {weights}"
            )
        if penalty is not None and not 0 <= penalty < np.inf:
            raise InputError(f"an ensemble's penalty must be at least 0, got {penalty}")
        self.weights = None if weights is None else shares / shares.sum()
        self.penalty = penalty
        self.members, self.name, self.include_prompt = list(members), name, include_prompt
        self.mean, self.std = float(mean), float(std)

    def raw(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], the members' mean score of whole texts, less the penalty."""
        scores = self.member_scores(texts)
        mean = self._mean(scores)
        return mean - self.penalty * self._spread(scores, mean) if self.penalty else mean

    def member_scores(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [members, b], each one's standardised scores."""
        return np.asarray([member.score(texts) for member in self.members])

    def _mean(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        if self.weights is None:
            return np.asarray(np.mean(scores, axis=0))
        return np.asarray(self.weights @ scores)

    def _spread(
        self, scores: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.float64]:
        """float64 [b], the members' standard deviation."""
        return np.asarray(np.sqrt(self._mean((scores - mean) ** 2)))

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> Any:
        """:returns: one standardised score per completion; with a penalty a `RewardOutput`."""
        if self.penalty is None:
            return super().__call__(prompts, completions)
        pairs = zip(prompts, completions, strict=True)
        texts = [p + c if self.include_prompt else c for p, c in pairs]
        scores = self.member_scores(texts)
        mean = self._mean(scores)
        spread = self._spread(scores, mean)
        total = (mean - self.penalty * spread - self.mean) / self.std
        parts = {
            "mean": ((mean - self.mean) / self.std).tolist(),
            "disagreement": (spread / self.std).tolist(),
        }
        return RewardOutput(total.tolist(), parts)

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Each member in a folder of its own."""
        folders = [f"member-{place}" for place in range(len(self.members))]
        for member, name in zip(self.members, folders, strict=True):
            member.save_pretrained(folder / name)
        parts: dict[str, Any] = {"members": folders}
        if self.weights is not None:
            parts["weights"] = self.weights.tolist()
        return parts | ({} if self.penalty is None else {"penalty": self.penalty})

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
            extra: dict[str, Any] = {}
            if fields.has("weights"):
                extra["weights"] = fields.items("weights", len(members))
                if not all(isinstance(w, int | float) for w in extra["weights"]):
                    raise fields.error("weights", "a list of numbers")
            if fields.has("penalty"):
                extra["penalty"] = fields.number("penalty")
            return cls(members, **extra, **shared_keywords(fields))

        saved: Self = read_saved(directory, {KIND}, read)
        return saved
