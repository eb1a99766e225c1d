"""Hashed n-gram features of texts: word 1-2-grams and character 3-5-grams.

A whole list of texts becomes three flat arrays that `torch.nn.functional.embedding_bag` takes as
they are. The hash is ours and written out here, so a saved model means the same on every machine
and in every process (Python's own `hash` does not). Texts of any script work: characters are code
points, words are those of `textgym.text_metrics.words`.
"""

import unicodedata
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.text_metrics.words import split_words

_PRIME = np.uint64(0x100000001B3)  # FNV's, as the base of the rolling polynomial
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)  # splitmix64's


@dataclass(frozen=True)
class Features:
    """The n-grams of b texts, one after the other.

    :param buckets: int64 [n], which weight each n-gram has.
    :param offsets: int64 [b], where each text starts in `buckets`.
    """

    buckets: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64 [b], n-grams of each text; 0 for an empty one."""
        return np.diff(self.offsets, append=len(self.buckets))


@dataclass(frozen=True)
class NgramHasher:
    """Which n-grams a text has, and the bucket of each.

    :param bits: there are 2^bits buckets; n-grams that meet in one share a weight.
    :param words: longest run of words, from 1; 0 for none.
    :param shortest: fewest characters in a character n-gram.
    :param longest: most characters; below `shortest` for none.
    :raises InputError: for sizes out of range.
    """

    bits: int = 18
    words: int = 2
    shortest: int = 3
    longest: int = 5

    def __post_init__(self) -> None:
        is_sized = 8 <= self.bits <= 24 and 0 <= self.words <= 5
        if not (is_sized and 1 <= self.shortest <= 20 and 0 <= self.longest <= 20):
            raise InputError(
                "n-grams need bits in 8..24, words in 0..5, shortest in 1..20, longest in 0..20, "
                f"got bits={self.bits}, words={self.words}, shortest={self.shortest}, "
                f"longest={self.longest}"
            )

    @classmethod
    def from_dict(cls, fields: dict[str, int]) -> Self:
        """The hasher that `dataclasses.asdict` wrote.

        :raises InputError: for unknown or non-integer fields.
        """
        known = {"bits", "words", "shortest", "longest"}
        if set(fields) != known or not all(type(value) is int for value in fields.values()):
            raise InputError(
                f"n-gram settings must be the integers {sorted(known)}, got {fields!r}"
            )
        return cls(**fields)

    def __call__(self, texts: Sequence[str]) -> Features:
        """The features of all texts; each text's do not depend on the others.

        Texts are lower-cased and composed (NFC), and runs of white space become one space.
        """
        owners: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
        hashes: list[npt.NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
        if self.words:
            tokens = [[zlib.crc32(w.encode()) for w in split_words(text)] for text in texts]
            flat = np.array([h for row in tokens for h in row], np.uint64)
            owner = np.repeat(np.arange(len(texts)), [len(row) for row in tokens])
            self._runs(_mix(flat), owner, range(1, self.words + 1), 1, owners, hashes)
        if self.longest >= self.shortest:
            plain = [" " + " ".join(_composed(text).split()) + " " for text in texts]
            flat = _code_points("".join(plain))
            owner = np.repeat(np.arange(len(texts)), [len(text) for text in plain])
            sizes = range(self.shortest, self.longest + 1)
            self._runs(flat, owner, sizes, 100, owners, hashes)
        all_owners, all_hashes = np.concatenate(owners), np.concatenate(hashes)
        order = np.argsort(all_owners, kind="stable")
        buckets = (all_hashes[order] >> np.uint64(64 - self.bits)).astype(np.int64)
        offsets = np.searchsorted(all_owners[order], np.arange(len(texts)))
        return Features(buckets, offsets.astype(np.int64))

    @staticmethod
    def _runs(
        flat: npt.NDArray[np.uint64],
        owner: npt.NDArray[np.int64],
        sizes: range,
        salt: int,
        owners: list[npt.NDArray[np.int64]],
        hashes: list[npt.NDArray[np.uint64]],
    ) -> None:
        """Append every run of neighbours inside one text, for each size, to the two lists."""
        for size in sizes:
            windows = len(flat) - size + 1
            if windows <= 0:
                return
            # The salt keeps runs of different sizes and kinds apart.
            rolled = np.full(windows, salt + size, np.uint64)
            for k in range(size):
                rolled = rolled * _PRIME + flat[k : k + windows]
            is_inside = owner[:windows] == owner[size - 1 :]
            owners.append(owner[:windows][is_inside])
            hashes.append(_mix(rolled[is_inside]))


def _composed(text: str) -> str:
    """Lower case, in the normal form NFC: one spelling of what reads the same."""
    lower = text.lower()
    return lower if lower.isascii() else unicodedata.normalize("NFC", lower)


def _code_points(text: str) -> npt.NDArray[np.uint64]:
    """uint64 [characters]; lone surrogates are characters like any other."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread each value over all 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
