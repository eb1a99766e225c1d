"""Near-copies among texts: which belong together when texts are split, in linear time and memory.

Two texts are near-copies when their letters and digits are the same, or when at least half of the
character 5-grams of either stand in both (Jaccard's index). Candidates come from MinHash (Broder
1997, "On the Resemblance and Containment of Documents") in bands (Leskovec, Rajaraman & Ullman,
"Mining of Massive Datasets", 3.4): a pair of index .5 is looked at with probability .99, one of .7
with 1 - 1e-5; each candidate's index is then computed. Every hash is written out here, so the same
texts are grouped in the same way on every machine.
"""

import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SHINGLE = 5
JACCARD = 0.5
BANDS, ROWS = 32, 3  # the signature has BANDS * ROWS hashes, 384 bytes a text
NEIGHBOURS = 4  # members of a bucket that each one is compared with
CHUNK_CHARACTERS = 5_000
_PRIME = np.uint64(0x100000001B3)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


def text_key(text: str) -> str:
    """The letters, marks and digits of `text`, lower case: texts of equal key count as the same."""
    if text.isascii():
        return "".join(filter(str.isalnum, text.lower()))
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if c.isalnum() or unicodedata.category(c)[0] == "M")


def equal_text_groups(texts: Sequence[str]) -> Integers:
    """int64 [n], the place of the first text with the same key (or the same text without one)."""
    first: dict[str, int] = {}
    return np.array(
        [first.setdefault(text_key(text) or text, place) for place, text in enumerate(texts)],
        dtype=np.int64,
    )


def near_copy_groups(texts: Sequence[str]) -> Integers:
    """int64 [n], one number for all texts that are near-copies of one another.

    Groups are chains: where a is near b and b near c, the three are together. A group's number is
    the place of its first text.
    """
    groups = equal_text_groups(texts)
    places = np.unique(groups)
    keys = [text_key(texts[place]) or texts[place] for place in places.tolist()]
    sets: dict[int, Hashes] = {}
    parents = list(range(len(keys)))
    for i, j in _candidates(signatures(keys)).tolist():
        if _root(parents, i) == _root(parents, j):
            continue
        one, other = (sets.setdefault(k, np.unique(_shingles(keys[k]))) for k in (i, j))
        if _is_near(one, other):
            _join(parents, i, j)
    roots = np.array([_root(parents, k) for k in range(len(keys))], dtype=np.int64)
    return np.asarray(places[roots][np.searchsorted(places, groups)])


class NearCopies:
    """Looks texts up among others: is one of those a near-copy?

    :param texts: the others; 640 bytes each are kept beside them.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        keys = [text_key(text) or text for text in texts]
        self._keys = list(dict.fromkeys(keys))
        self._equal = set(self._keys)
        self._signatures = signatures(self._keys)
        codes = band_codes(self._signatures)
        self._order = np.argsort(codes, axis=1, kind="stable")
        self._codes = np.take_along_axis(codes, self._order, axis=1)

    def holds(self, text: str) -> bool:
        """Whether a near-copy of the text is among them."""
        key = text_key(text) or text
        if key in self._equal:
            return True
        if not self._keys:
            return False
        signature = signatures([key])
        found = []
        for band, code in enumerate(band_codes(signature)[:, 0]):
            start = int(np.searchsorted(self._codes[band], code))
            places = self._order[band, start : start + NEIGHBOURS]
            found += places[self._codes[band, start : start + NEIGHBOURS] == code].tolist()
        alike = [
            place
            for place in dict.fromkeys(found)
            if (self._signatures[place] == signature[0]).mean() >= JACCARD - 0.15
        ]
        own = np.unique(_shingles(key)) if alike else np.zeros(0, np.uint64)
        return any(_is_near(own, np.unique(_shingles(self._keys[place]))) for place in alike)


def joined(groups: Integers, links: Sequence[tuple[int, int]]) -> Integers:
    """int64 [n], `groups` with the groups of each pair of places made one.

    :param groups: int64 [n], any numbers.
    :returns: for each place the first place of its group.
    """
    _, first, number = np.unique(groups, return_index=True, return_inverse=True)
    places = np.argsort(np.argsort(first))[number]  # numbers in the order of the first places
    parents = list(range(len(first)))
    for i, j in links:
        _join(parents, int(places[i]), int(places[j]))
    roots = np.array([_root(parents, k) for k in range(len(parents))], dtype=np.int64)
    return np.asarray(np.sort(first)[roots][places], dtype=np.int64)


def _is_near(one: Hashes, other: Hashes) -> bool:
    """Whether Jaccard's index of two sets of shingles is high enough."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common >= JACCARD * (len(one) + len(other) - common)


def _root(parents: list[int], node: int) -> int:
    """The smallest member of a node's group; the way to it becomes shorter."""
    while parents[node] != node:
        parents[node] = parents[parents[node]]
        node = parents[node]
    return node


def _join(parents: list[int], one: int, other: int) -> None:
    """Make two groups one, under the smaller root."""
    one, other = sorted((_root(parents, one), _root(parents, other)))
    parents[other] = one


def merged(groups: Integers, others: Integers) -> Integers:
    """int64 [n], places together that either numbering has together; see `joined`."""
    _, first, number = np.unique(others, return_index=True, return_inverse=True)
    return joined(groups, list(zip(range(len(groups)), first[number].tolist(), strict=True)))


def _shingles(key: str) -> Hashes:
    """uint64 [s], a hash of each run of five characters, or of the whole key if it is shorter."""
    points = np.frombuffer(key.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    width = min(SHINGLE, len(points))
    windows = len(points) - width + 1
    rolled = np.full(windows, width, np.uint64)
    for k in range(width):
        rolled = rolled * _PRIME + points[k : k + windows]
    return _mix(rolled)


def signatures(keys: Sequence[str]) -> npt.NDArray[np.uint32]:
    """uint32 [n, BANDS * ROWS], the smallest hash of each text's shingles under each function."""
    rng = np.random.default_rng(0)  # the functions are part of the rule: no seed of the caller's
    factors = rng.integers(0, 2**31, (BANDS * ROWS, 1), dtype=np.uint32) * 2 + 1
    result = np.zeros((len(keys), BANDS * ROWS), np.uint32)
    for part in _chunks(keys):
        hashes = [_shingles(keys[k]).astype(np.uint32) for k in part]
        starts = np.cumsum([0, *(len(row) for row in hashes[:-1])])
        values = factors * np.concatenate(hashes)  # modulo 2^32: a permutation
        result[part.start : part.stop] = np.minimum.reduceat(values, starts, axis=1).T
    return result


def _chunks(keys: Sequence[str]) -> list[range]:
    """Ranges of places with some `CHUNK_CHARACTERS` characters each."""
    parts, start, size = [], 0, 0
    for place, key in enumerate(keys):
        size += len(key)
        if size >= CHUNK_CHARACTERS:
            parts.append(range(start, place + 1))
            start, size = place + 1, 0
    return [*parts, range(start, len(keys))] if start < len(keys) else parts


def _candidates(marks: npt.NDArray[np.uint32]) -> Integers:
    """int64 [m, 2], pairs of places that share a band and look alike, the smaller place first."""
    n = len(marks)
    found = [np.zeros(0, np.int64)]
    for code in band_codes(marks):
        order = np.argsort(code, kind="stable")
        for step in range(1, NEIGHBOURS + 1):
            is_shared = code[order[step:]] == code[order[:-step]]
            one, other = order[:-step][is_shared], order[step:][is_shared]
            # The signatures estimate the index to .05; what is clearly too far goes no further.
            is_alike = (marks[one] == marks[other]).mean(axis=1) >= JACCARD - 0.15
            found.append(one[is_alike] * n + other[is_alike])
    pairs = np.unique(np.concatenate(found))
    return np.stack([pairs // max(n, 1), pairs % max(n, 1)], axis=1)


def band_codes(marks: npt.NDArray[np.uint32]) -> Hashes:
    """uint64 [BANDS, n], one number for the hashes of each band."""
    rows = marks.reshape(len(marks), BANDS, ROWS).astype(np.uint64)
    codes = np.zeros((BANDS, len(marks)), np.uint64)
    for row in range(ROWS):
        codes = _mix(codes * _PRIME + rows[:, :, row].T)
    return codes


def _mix(values: Hashes) -> Hashes:
    """Spread each value over all 64 bits (the finaliser of splitmix64, Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
