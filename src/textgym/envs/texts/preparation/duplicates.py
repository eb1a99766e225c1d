"""Steps that remove duplicates: equal texts, and near-copies."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from textgym.envs.texts.preparation.rows import Row, StepCount
from textgym.envs.texts.preparation.step import Step, TextFunction, TextStep
from textgym.near_copies import JACCARD, text_key
from textgym.near_copy_index import NearCopyIndex

BATCH = 256  # rows that are compared at a time
_DIGEST_BYTES = 12  # a chance of 1e-11 that any two of a million texts share one


@dataclass(frozen=True)
class Duplicates(TextStep):
    """Removes texts whose letters and digits have been seen; memory: a digest for each text."""

    key: ClassVar[str] = "duplicates"

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        seen: set[bytes] = set()

        def first_only(text: str) -> str | None:
            data = (text_key(text) or text).encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
            if digest in seen:
                return None
            seen.add(digest)
            return text

        return first_only


@dataclass(frozen=True)
class NearDuplicates(Step):
    """Removes texts that are near-copies of one that went on before (`textgym.near_copies`).

    Memory: `NearCopyIndex.BYTES` a text that is kept.

    :param threshold: Jaccard's index of the character 5-grams from which two texts are
        near-copies, 0.5 to 1, as the signatures estimate it (standard deviation .05).
    """

    key: ClassVar[str] = "near_duplicates"
    threshold: float = 0.7

    def __post_init__(self) -> None:
        self._require("threshold", JACCARD, 1)

    def apply(self, rows: Iterator[Row], count: StepCount) -> Iterator[Row]:
        """See `Step.apply`; rows are read some ahead."""
        index = NearCopyIndex(self.threshold)
        while batch := list(islice(rows, BATCH)):
            is_new = index.add([row.text for row in batch])
            for row, goes_on in zip(batch, is_new, strict=True):
                if goes_on:
                    yield row
                else:
                    count.remove(row)
