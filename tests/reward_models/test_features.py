"""Hashed n-grams: which there are, stability between processes, independence of texts."""

import subprocess
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import InputError
from textgym.reward_models.learned.features import NgramHasher

TEXTS = st.lists(st.text(max_size=20), max_size=5)


def rows(hasher: NgramHasher, texts: list[str]) -> list[list[int]]:
    features = hasher(texts)
    return [sorted(part.tolist()) for part in np.split(features.buckets, features.offsets)[1:]]


def test_counts_of_word_and_character_ngrams() -> None:
    # words a, b, c: 3 unigrams and 2 bigrams
    assert NgramHasher(words=2, longest=0)(["A b, c", "", "x"]).counts.tolist() == [5, 0, 1]
    # " ab " has two 3-grams and one 4-gram, no 5-gram
    assert NgramHasher(words=0)(["ab", "  AB ", ""]).counts.tolist() == [3, 3, 0]


def test_the_same_ngram_has_the_same_bucket_in_every_text() -> None:
    hasher = NgramHasher(words=1, longest=0)
    (one,), (again,), (other,) = rows(hasher, ["film", "Film!", "movie"])
    assert one == again != other


def test_runs_of_different_sizes_and_kinds_do_not_share_buckets() -> None:
    hasher = NgramHasher(bits=24, words=2)
    assert len(set(hasher(["aaaaaaaa aaaaaaaa bbbb"]).buckets.tolist())) == len(
        {*("aaa", "aaaa", "aaaaa", " aa", " aaa", " aaaa", "aa ", "aaa ", "aaaa ")}
        | {*("a a", "aa a", "a aa", "aaa a", "aa aa", "a aaa")}
        | {*("a b", "aa b", "a bb", "aaa b", "aa bb", "a bbb")}
        | {*("bbb", "bbbb", " bb", " bbb", " bbbb", "bb ", "bbb ", "bbbb ")}
        | {"w:aaaaaaaa", "w:bbbb", "w:a a", "w:a b"}
    )


@given(TEXTS)
def test_a_text_has_the_same_features_in_every_batch(texts: list[str]) -> None:
    hasher = NgramHasher(bits=12)
    assert rows(hasher, texts) == [rows(hasher, [text])[0] for text in texts]


def test_buckets_are_the_same_in_another_process() -> None:
    code = (
        "from textgym.reward_models.learned.features import NgramHasher;"
        "print(NgramHasher()(['a film, 电影 \\ud800']).buckets.sum())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) == NgramHasher()(["a film, 电影 \ud800"]).buckets.sum()


def test_settings_round_trip_and_refusals() -> None:
    hasher = NgramHasher(bits=10, words=1, shortest=2, longest=3)
    assert NgramHasher.from_dict(asdict(hasher)) == hasher
    with pytest.raises(InputError, match=r"bits in 8\.\.24"):
        NgramHasher(bits=4)
    with pytest.raises(InputError, match="must be the integers"):
        NgramHasher.from_dict({"bits": 10})
