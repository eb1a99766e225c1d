"""The interval of a pair accuracy: by hand, by brute force, and how often it covers the truth."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from textgym.reward_models.pair_accuracy import clustered_interval, clusters_of


@dataclass
class Preferred:
    prompt: str
    chosen: str = "a"
    rejected: str = "b"


@dataclass
class Rated:
    block: int | None


def test_the_interval_is_wilsons_with_the_clusters_own_variance():
    hits = np.array([1.0, 1.0, 1.0, 0.0])
    low, high = clustered_interval(hits, np.arange(4))
    t2 = stats.t.ppf(0.975, 3) ** 2  # variance .75 / 12, so .1875 / .0625 = 3 independent ones
    middle, half = (0.75 + t2 / 6) / (1 + t2 / 3), t2 * (0.1875 / 3 + t2 / 36)
    assert low == pytest.approx(middle - half**0.5 / (1 + t2 / 3))
    assert high == pytest.approx(middle + half**0.5 / (1 + t2 / 3))
    assert np.isnan(clustered_interval(hits, np.zeros(4, int))).all()
    assert clustered_interval(np.ones(20), np.arange(20))[0] < 0.9  # no certainty from twenty


def test_the_interval_covers_the_mean_where_pairs_of_a_block_are_alike():
    rng, covered = np.random.default_rng(0), 0
    clusters = np.repeat(np.arange(40), 10)
    for _ in range(500):
        chance = rng.beta(3, 2, 40)  # mean .6
        low, high = clustered_interval((rng.random(400) < chance[clusters]) * 1.0, clusters)
        covered += low <= 0.6 <= high
    assert 0.93 <= covered / 500 <= 0.97


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 4), st.integers(0, 4)),
        min_size=2,
        max_size=25,
    )
)
def test_pairs_across_clusters_count_every_two_that_share_one(cases):
    """The double sum over pairs, written out."""
    hits = np.array([hit for hit, _, _ in cases])
    one, other = (np.array([case[k] for case in cases]) for k in (1, 2))
    count, n = len(set(one) | set(other)), len(cases)
    low, high = clustered_interval(hits, one, other)
    if count < 2:
        assert np.isnan([low, high]).all()
        return
    error, variance = hits - hits.mean(), 0.0
    for i in range(n):
        for j in range(n):
            if {one[i], other[i]} & {one[j], other[j]}:
                variance += error[i] * error[j]
    variance *= count / (count - 1) / n**2
    mean, t2 = hits.mean(), stats.t.ppf(0.975, count - 1) ** 2
    size = count if variance <= 1e-12 else min(mean * (1 - mean) / variance, n)
    middle = (mean + t2 / (2 * size)) / (1 + t2 / size)
    half = (t2 * (mean * (1 - mean) / size + t2 / (4 * size**2))) ** 0.5 / (1 + t2 / size)
    if variance <= 1e-12 < mean * (1 - mean):
        return  # a difference of sums that should be 0: either size may come of it
    expected = max(0.0, middle - half), min(1.0, middle + half)
    assert (low, high) == pytest.approx(expected, abs=1e-9)


def test_texts_that_belong_together():
    assert clusters_of([Rated(3), Rated(None), Rated(3), Rated(None)]).tolist() == [0, 1, 0, 2]
    rows = [Preferred("x"), Preferred("y"), Preferred("x")]
    assert clusters_of(rows).tolist() == [0, 0, 1, 1, 0, 0]
    assert clusters_of([Preferred(""), Preferred("")]).tolist() == [0, 0, 1, 1]
