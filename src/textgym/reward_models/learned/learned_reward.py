"""What learned reward models share: standardised scores of whole texts, kept in a directory."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from textgym.directories import atomic_directory, read_directory
from textgym.errors import InputError
from textgym.paths import expand
from textgym.saved_fields import SavedFields
from textgym.storage import read_json, write_json_atomically

CONFIG_FILE = "reward_model.json"

R = TypeVar("R")


class LearnedReward(ABC):
    """A reward model that was fitted, and scores prompt and completion as one text.

    A subclass sets the attributes, gives `raw` scores, writes its own files and reads them with
    `read_saved`.
    """

    kind: ClassVar[str]
    """What its directory says that it holds."""
    name: str
    """Its name in logs."""
    mean: float
    """Subtracted from raw scores, see `standardise`."""
    std: float
    """Divides them; above 0."""
    include_prompt: bool
    """Score prompt + completion; False scores the completion alone."""

    @abstractmethod
    def raw(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], scores of whole texts before standardisation; each by itself."""

    @abstractmethod
    def write_parts(self, folder: Path) -> dict[str, Any]:
        """Write its own files into a new directory; returns what `reward_model.json` says of them.

        :raises OSError: if they cannot be written.
        """

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
        """Write `reward_model.json` and what belongs to it, in one step.

        :raises StorageError: if it cannot be written.
        """
        with atomic_directory(expand(directory)) as folder:
            parts = self.write_parts(folder)
            shared = {
                "kind": self.kind,
                "name": self.name,
                "mean": self.mean,
                "std": self.std,
                "include_prompt": self.include_prompt,
            }
            write_json_atomically(folder / CONFIG_FILE, {**shared, **parts})


def read_saved(
    directory: str | Path, kinds: Collection[str], read: Callable[[Path, SavedFields], R]
) -> R:
    """What `read` makes of a directory that `save_pretrained` wrote.

    :param kinds: one of which it must hold.
    :param read: from the directory and the fields of its `reward_model.json`.
    :raises InputError: naming the file, if it is missing, damaged or of another kind.
    """

    def checked(place: Path) -> R:
        fields = SavedFields(read_json(place / CONFIG_FILE), place / CONFIG_FILE)
        if fields.value("kind") not in tuple(kinds):  # it may be anything
            raise fields.error("kind", " or ".join(map(repr, sorted(kinds))))
        return read(place, fields)

    return read_directory(expand(directory), checked, must_have_manifest=True)


def shared_keywords(fields: SavedFields) -> dict[str, Any]:
    """The keywords of a constructor that all kinds have.

    :raises InputError: naming a field that is missing or of another type.
    """
    return {
        "mean": fields.number("mean"),
        "std": fields.number("std", above=0),
        "name": fields.text("name"),
        "include_prompt": fields.flag("include_prompt"),
    }
