"""Find near-duplicate texts, so that none stands in two splits.

Texts are compared by the character 8-grams of their letters and digits (lower case). Two are
near-duplicates when the 8-grams' Jaccard index is at least 0.5, or when at least 0.8 of the
shorter text's 8-grams (20 or more) stand in the longer one.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from textgym.near_copies import text_key

SHINGLE = 8
JACCARD = 0.5
CONTAINED = 0.8
MIN_CONTAINED_SHINGLES = 20


def shingles(text: str) -> frozenset[str]:
    """The character 8-grams of the key; the whole key if it is shorter."""
    key = text_key(text)
    return frozenset(key[i : i + SHINGLE] for i in range(max(1, len(key) - SHINGLE + 1)))


def near_duplicate_pairs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Index pairs (i, j), i < j, of near-duplicates, ordered by j, then by i."""
    sets = [shingles(text) for text in texts]
    seen_in: defaultdict[str, list[int]] = defaultdict(list)
    for j, own in enumerate(sets):
        shared: Counter[int] = Counter()
        for shingle in own:
            shared.update(seen_in[shingle])
            seen_in[shingle].append(j)
        for i in sorted(shared):
            if _is_near(shared[i], len(sets[i]), len(own)):
                yield i, j


def _is_near(common: int, size: int, other: int) -> bool:
    smaller = min(size, other)
    is_contained = smaller >= MIN_CONTAINED_SHINGLES and common >= CONTAINED * smaller
    return is_contained or common >= JACCARD * (size + other - common)
