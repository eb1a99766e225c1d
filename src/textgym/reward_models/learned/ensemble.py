"""Several standardised reward models as one: the mean of their scores, standardised again.

Models that err in different ways rank better together than any of them: a trunk reads the whole
text, n-grams know single words.
"""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from textgym.directories import atomic_directory, read_directory
from textgym.errors import InputError
from textgym.paths import expand
from textgym.saved_fields import SavedFields
from textgym.storage import read_json, write_json_atomically

CONFIG_FILE, KIND = "reward_model.json", "ensemble"
MOST = 16  # members that a directory may name
_FOLDER = re.compile(r"member-\d{1,2}")


class Scorer(Protocol):
    """A learned reward model with scores in standard deviations of some texts."""

    name: str

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], standardised scores of whole texts."""

    def save_pretrained(self, directory: str | Path) -> None:
        """Write it, so that it can be opened again."""


class Ensemble:
    """The mean of its members' standardised scores.

    :param members: at least one.
    :param mean: subtracted from the members' mean score, see `standardise`.
    :param std: divides it; above 0.
    :raises InputError: without members, or for a std that is not positive.
    """

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

    def score(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], (raw - mean) / std of whole texts."""
        return (self.raw(texts) - self.mean) / self.std

    def standardise(self, texts: Sequence[str]) -> Self:
        """Make scores 0 in the mean with standard deviation 1 on these texts; returns itself.

        :raises InputError: if the texts' scores do not differ.
        """
        raw = self.raw(texts)
        if len(raw) < 2 or not raw.std() > 1e-9:
            raise InputError(
                f"{self.name}: standardising needs texts with different scores, got {len(raw)} "
                "texts of one score: pass more texts"
            )
        self.mean, self.std = float(raw.mean()), float(raw.std())
        return self

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one standardised score per completion."""
        pairs = zip(prompts, completions, strict=True)
        scores = self.score([p + c if self.include_prompt else c for p, c in pairs])
        return [float(score) for score in scores]

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `reward_model.json`, and each member in a folder of its own.

        :raises StorageError: if it cannot be written.
        """
        with atomic_directory(directory) as folder:
            folders = [f"member-{place}" for place in range(len(self.members))]
            for member, name in zip(self.members, folders, strict=True):
                member.save_pretrained(folder / name)
            fields = {
                "kind": KIND,
                "name": self.name,
                "mean": self.mean,
                "std": self.std,
                "include_prompt": self.include_prompt,
                "members": folders,
            }
            write_json_atomically(folder / CONFIG_FILE, fields)

    @classmethod
    def from_pretrained(cls, directory: str | Path, open_member: Callable[[Path], Any]) -> Self:
        """The saved ensemble.

        :param open_member: opens the reward model in a directory.
        :raises InputError: naming the file, if it is missing, damaged or of another kind.
        """
        read = functools.partial(cls._read, open_member=open_member)
        return read_directory(expand(directory), read, must_have_manifest=True)

    @classmethod
    def _read(cls, directory: Path, open_member: Callable[[Path], Any]) -> Self:
        fields = SavedFields(read_json(directory / CONFIG_FILE), directory / CONFIG_FILE)
        if fields.value("kind") != KIND:
            raise fields.error("kind", repr(KIND))
        folders = fields.texts("members")
        if not 0 < len(folders) <= MOST or any(not _FOLDER.fullmatch(name) for name in folders):
            raise fields.error("members", f"1 to {MOST} folders such as member-0")
        members = [open_member(directory / name) for name in folders]
        if not all(callable(getattr(member, "score", None)) for member in members):
            raise fields.error("members", "reward models that score whole texts")
        return cls(
            members,
            mean=fields.number("mean"),
            std=fields.number("std", above=0),
            name=fields.text("name"),
            include_prompt=fields.flag("include_prompt"),
        )
