"""The growing index of near-copies, held against comparing every text with every other."""

import random

import numpy as np
import pytest

from textgym.errors import InputError
from textgym.near_copies import text_key
from textgym.near_copy_index import NearCopyIndex


def shingles(text):
    """The character 5-grams of a text's key."""
    key = text_key(text)
    return {key[i : i + 5] for i in range(len(key) - 4)}


def made_texts(count, seed):
    """Texts of random words, a third of them copies of an earlier one but for a word."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghij", k=rng.randint(2, 8))) for _ in range(400)]
    own, texts = [], []
    for _ in range(count):
        if own and rng.random() < 0.3:
            copy = rng.choice(own).split()
            copy[rng.randrange(len(copy))] = rng.choice(words)
            texts.append(" ".join(copy))
        else:
            own.append(" ".join(rng.choices(words, k=40)))
            texts.append(own[-1])
    return texts


def test_it_takes_what_comparing_all_pairs_takes():
    texts = made_texts(200, seed=0)
    expected, kept = [], []
    for one in map(shingles, texts):
        indices = [len(one & other) / len(one | other) for other in kept]
        assert not any(0.4 < index < 0.7 for index in indices)  # the estimate cannot miss
        expected.append(max(indices, default=0) < 0.55)
        if expected[-1]:
            kept.append(one)
    index = NearCopyIndex(0.55)
    found = [bool(b) for i in range(0, 200, 64) for b in index.add(texts[i : i + 64])]
    assert found == expected
    assert 100 < len(index) == sum(expected) < 180


def test_it_does_not_matter_how_the_texts_are_divided():
    texts = made_texts(100, seed=1)
    whole = NearCopyIndex().add(texts)
    one_by_one = NearCopyIndex()
    assert np.concatenate([one_by_one.add([text]) for text in texts]).tolist() == whole.tolist()


def test_its_memory_is_what_it_says():
    index = NearCopyIndex()
    for start in range(0, 1280, 256):
        index.add([f"{hash((start, i)):x} {i * 7919} {start * 31 + i:b}" * 3 for i in range(256)])
    codes = sum(run.codes.nbytes + run.places.nbytes for run in index._runs)
    used = codes + index._marks.nbytes * len(index) / len(index._marks)
    assert used == len(index) * NearCopyIndex.BYTES
    assert len(index) == 1280 == len(index._marks)
    assert len(index._runs) <= 12


def test_short_and_empty_texts_are_compared_whole():
    index = NearCopyIndex()
    assert index.add(["ab", "AB!", "...", "...", "!!", "abc"]).tolist() == [
        *(True, False, True, False, True, True)
    ]
    assert index.add([]).tolist() == []


def test_another_threshold_is_refused():
    with pytest.raises(InputError, match=r"threshold must be from 0\.5 to 1, got 0\.2"):
        NearCopyIndex(0.2)
