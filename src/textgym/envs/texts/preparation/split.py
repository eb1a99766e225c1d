"""A step that gives each row its part: training, validation or test, by a hash of its group."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from textgym.envs.texts.preparation.rows import Row, StepCount
from textgym.envs.texts.preparation.step import Step
from textgym.errors import InputError
from textgym.near_copies import text_key

TRAIN, VALIDATION, TEST = PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Split(Step):
    """Divides the rows by a hash of their group and the seed: rows of one group stay together.

    A group keeps its part when the corpus grows or is read in another order. The shares are met as
    far as chance and the groups' sizes allow.

    :param validation: share of the groups.
    :param test: share of the groups.
    :param by: the column that names a row's group, "author" say; without it, texts of the same
        letters and digits are a group. Near-copies stay together only where `near_duplicates` left
        one of them.
    :param seed: of the hash.
    """

    key: ClassVar[str] = "split"
    validation: float = 0.05
    test: float = 0.0
    by: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._require("seed", 0, 2**32 - 1, is_whole=True)
        for name in (VALIDATION, TEST):
            self._require(name, 0, 1)
        if not 0 < self.validation + self.test < 1:
            total = self.validation + self.test
            raise InputError(f"split: validation + test must be above 0 and below 1, got {total:g}")

    def apply(self, rows: Iterator[Row], count: StepCount) -> Iterator[Row]:
        """See `Step.apply`."""
        for row in rows:
            row.part, row.part_of = self.part_of(row), self.part_of
            count.reasons[row.part] += 1
            yield row

    def part_of(self, row: Row) -> str:
        """The part that a row falls to.

        :raises InputError: for a row that lacks the group's column.
        """
        data = f"{self.seed}\n{self._group(row)}".encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=8, person=b"split").digest()
        share = int.from_bytes(digest, "big") / 2**64
        if share < self.test:
            return TEST
        return VALIDATION if share < self.test + self.validation else TRAIN

    def _group(self, row: Row) -> object:
        if self.by is None:
            return text_key(row.text) or row.text
        value = row.values.get(self.by)
        if value is None or value == "":
            raise InputError(f"{row.place}: the split is by {self.by!r}, which this row lacks")
        return value
