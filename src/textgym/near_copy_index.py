"""An index of texts that grows as they come: is a near-copy of this one in it already?

The signatures and bands are those of `textgym.near_copies`. Texts themselves are not kept, so the
index of Jaccard is what two signatures say it is (standard deviation .05). The codes of the bands
stand in sorted runs, of which neighbours of like size are merged, as log-structured stores do
(O'Neil et al. 1996, "The Log-Structured Merge-Tree"): plain arrays, no objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.near_copies import (
    BANDS,
    JACCARD,
    NEIGHBOURS,
    ROWS,
    Hashes,
    band_codes,
    signatures,
    text_key,
)

Mask = npt.NDArray[np.bool_]
Marks = npt.NDArray[np.uint32]
_GROWTH = 1.25


@dataclass(frozen=True)
class _Run:
    """Codes of some texts' bands in order, uint64 [BANDS * n], and of which text, uint32."""

    codes: Hashes
    places: Marks

    @classmethod
    def merged(cls, runs: "Sequence[_Run]") -> "_Run":
        codes = np.concatenate([run.codes for run in runs])
        places = np.concatenate([run.places for run in runs])
        order = np.argsort(codes, kind="stable")  # of sorted parts: linear
        return cls(codes[order], places[order])


class NearCopyIndex:
    """Texts that are no near-copies of one another, in the order in which they came.

    :param threshold: Jaccard's index from which two texts are near-copies, 0.5 to 1.
    :raises InputError: for another threshold.
    """

    BYTES = 4 * BANDS * ROWS + BANDS * (8 + 4)
    """Of a text: its signature, and code and place of each band. While two runs are merged their
    codes stand there twice; the array of signatures has up to a quarter to spare."""

    def __init__(self, threshold: float = 0.7) -> None:
        if not JACCARD <= threshold <= 1:
            raise InputError(f"threshold must be from {JACCARD} to 1, got {threshold!r:.60}")
        self._threshold = threshold
        self._count = 0
        self._marks = np.zeros((1024, BANDS * ROWS), np.uint32)
        self._runs: list[_Run] = []

    def __len__(self) -> int:
        return self._count

    def add(self, texts: Sequence[str]) -> Mask:
        """Take up those texts that are near-copies of none before them, here or in the index.

        :return: bool [n], which were taken up.
        """
        marks = signatures([text_key(text) or text for text in texts])
        codes = band_codes(marks)
        # The band is part of the code, so that all stand in one array.
        codes ^= np.arange(1, BANDS + 1, dtype=np.uint64)[:, None] << np.uint64(58)
        is_new = ~self._is_known(marks, codes)
        places = np.flatnonzero(is_new)
        alike = _similar(marks[places])
        taken: list[int] = []
        for k in range(len(places)):
            if not (alike[k, taken] >= self._threshold).any():
                taken.append(k)
        is_new[:] = False
        is_new[places[taken]] = True
        self._append(marks[is_new], codes[:, is_new])
        return np.asarray(is_new, bool)

    def _is_known(self, marks: Marks, codes: Hashes) -> Mask:
        """bool [n], which have a near-copy in the index.

        :param marks: uint32 [n, BANDS * ROWS].
        :param codes: uint64 [BANDS, n].
        """
        is_known = np.zeros(len(marks), bool)
        for run in self._runs:
            left = np.flatnonzero(~is_known)
            wanted = codes[:, left].ravel()
            asking = np.tile(left, BANDS)
            start = np.searchsorted(run.codes, wanted)
            for step in range(NEIGHBOURS):
                at = np.minimum(start + step, len(run.codes) - 1)
                is_hit = (run.codes[at] == wanted) & (start + step < len(run.codes))
                pairs = np.unique(asking[is_hit] * 2**32 + run.places[at[is_hit]].astype(np.int64))
                one, other = pairs >> 32, pairs & (2**32 - 1)
                is_alike = (marks[one] == self._marks[other]).mean(axis=1) >= self._threshold
                is_known[one[is_alike]] = True
        return is_known

    def _append(self, marks: Marks, codes: Hashes) -> None:
        if not len(marks):
            return
        end = self._count + len(marks)
        if end > len(self._marks):
            grown = np.zeros((max(end, int(_GROWTH * len(self._marks))), BANDS * ROWS), np.uint32)
            grown[: self._count] = self._marks[: self._count]
            self._marks = grown
        self._marks[self._count : end] = marks
        places = np.tile(np.arange(self._count, end, dtype=np.uint32), BANDS)
        self._count = end
        self._runs.append(_Run.merged([_Run(codes.ravel(), places)]))
        while len(self._runs) > 1 and len(self._runs[-2].codes) < 2 * len(self._runs[-1].codes):
            self._runs[-2:] = [_Run.merged(self._runs[-2:])]


def _similar(marks: Marks) -> npt.NDArray[np.float32]:
    """float32 [n, n], the share of hashes that each two signatures have in common."""
    result = np.zeros((len(marks), len(marks)), np.float32)
    for k in range(marks.shape[1]):
        result += marks[:, k, None] == marks[None, :, k]
    return np.asarray(result / np.float32(marks.shape[1]), np.float32)
