"""Held-out figures of reward models: bins, calibration error, intervals, correlations."""

import numpy as np
import pytest

from textgym.reward_models.learned.calibration import (
    Bin,
    accuracy_interval,
    calibration_error,
    length_correlation,
    overlap_correlation,
    reliability,
)
from textgym.reward_models.learned.pairs import Pairs
from textgym.reward_models.pair_accuracy import clustered_interval


def pairs_of(labels):
    n = len(labels)
    return Pairs(np.arange(n), np.arange(n, 2 * n), np.array(labels, float))


def test_bins_by_hand_whichever_stands_first():
    """Sure of .8 twice, a hit and a miss; sure of .62 once, a hit; ties are left out."""
    win = [0.8, 0.2, 0.62, 0.9]
    bins = reliability(win, pairs_of([1, 1, 1, 0.5]))
    assert bins == (Bin(0.62, 1.0, 1), Bin(pytest.approx(0.8), 0.5, 2))
    assert calibration_error(bins) == pytest.approx((0.38 + 2 * 0.3) / 3)
    assert np.isnan(calibration_error(reliability([0.9], pairs_of([0.5]))))


def test_a_model_that_knows_how_sure_it_is_has_no_calibration_error():
    rng = np.random.default_rng(0)
    win = rng.random(40_000)
    pairs = pairs_of((rng.random(40_000) < win).astype(float))
    assert calibration_error(reliability(win, pairs)) < 0.01
    too_sure = np.where(win > 0.5, 0.99, 0.01)
    assert calibration_error(reliability(too_sure, pairs)) == pytest.approx(0.24, abs=0.01)


def test_the_interval_of_pairs_in_groups_is_that_of_the_groups():
    """Forty groups of ten copies of one pair: as wide as forty pairs, not as four hundred."""
    hit = np.random.default_rng(0).random(40) < 0.7
    scores = np.zeros(80)
    scores[:40] = np.where(hit, 1.0, -1.0)
    first = np.repeat(np.arange(40), 10)
    pairs = Pairs(first, first + 40, np.ones(400))
    groups = np.concatenate([np.arange(40)] * 2)
    alone = Pairs(np.arange(40), np.arange(40, 80), np.ones(40))
    expected = clustered_interval(hit.astype(float), np.arange(40))
    assert accuracy_interval(scores, pairs, groups) == pytest.approx(expected)
    assert accuracy_interval(scores, alone, groups) == pytest.approx(expected)
    tied = Pairs(pairs.first, pairs.second, np.where(np.arange(400) < 200, 1.0, 0.5))
    half = clustered_interval(hit[:20].astype(float), np.arange(20))
    assert accuracy_interval(scores, tied, groups) == pytest.approx(half)  # ties count for nothing
    assert np.isnan(accuracy_interval(scores, pairs, np.zeros(80, int))).all()


def test_correlations_by_hand():
    texts = ["one", "one two three", "one two", "one two three four"]
    assert length_correlation([1.0, 3.0, 2.0, 4.0], texts) == pytest.approx(1.0)
    assert length_correlation([4.0, 2.0, 3.0, 1.0], texts) == pytest.approx(-1.0)
    prompts = ["A film", "a film", "a film", "a film"]
    ends = ["a film", "a dog", "the dog", "film a film dog"]  # 1, 1/2, 0 and 3/4 of the words
    assert overlap_correlation([4.0, 2.0, 1.0, 3.0], prompts, ends) == pytest.approx(1.0)
    assert np.isnan(overlap_correlation([4.0, 2.0, 1.0, 3.0], [""] * 4, ends))
