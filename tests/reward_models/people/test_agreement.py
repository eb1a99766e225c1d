"""Agreement held against numbers worked out by hand and against the package krippendorff."""

import krippendorff
import numpy as np
import pytest
from scipy.stats import binomtest

from textgym.reward_models.people.agreement import (
    alpha_with_interval,
    answer_counts,
    disputes,
    interval,
    krippendorff_alpha,
    nominal,
    pairwise_agreement,
    share,
)


def table(rng, raters=5, items=40, categories=4, missing=0.4):
    """[raters, items] with NaN where nobody answered; raters follow a common opinion half-way."""
    truth = rng.integers(categories, size=items)
    noise = rng.integers(categories, size=(raters, items))
    values = np.where(rng.random((raters, items)) < 0.6, truth, noise).astype(float)
    values[rng.random((raters, items)) < missing] = np.nan
    return values


def counts_of(values, categories):
    raters, items = np.nonzero(~np.isnan(values))
    return answer_counts(items, values[raters, items].astype(int), categories)


def test_alpha_by_hand():
    """Two raters, four items: a a, b b, a b, a a: D_o = 2/8, D_e = 2·5·3/(8·7), α = 1 − 7/15."""
    counts = [[2, 0], [0, 2], [1, 1], [2, 0]]
    assert krippendorff_alpha(counts, nominal(2)) == pytest.approx(1 - 7 / 15)


@pytest.mark.parametrize("seed", range(10))
def test_alpha_equals_the_package(seed):
    values = table(np.random.default_rng(seed))
    counts = counts_of(values, 4)
    for level, distance in (("nominal", nominal(4)), ("interval", interval(range(4)))):
        expected = krippendorff.alpha(reliability_data=values, level_of_measurement=level)
        assert krippendorff_alpha(counts, distance) == pytest.approx(expected, abs=1e-12)


def test_the_interval_covers_the_alpha_of_many_more_items():
    truth = krippendorff.alpha(
        reliability_data=table(np.random.default_rng(0), items=20_000),
        level_of_measurement="nominal",
    )
    covered = 0
    for seed in range(50):
        rng = np.random.default_rng([1, seed])
        counts = counts_of(table(rng), 4)
        found = alpha_with_interval(counts, nominal(4), rng, samples=200)
        covered += found.low <= truth <= found.high
    assert (
        covered >= 42
    )  # 47.5 expected; a binomial of .95 is below 42 once in 300, of .8 half the time


def test_alpha_is_nan_where_nobody_could_disagree():
    assert np.isnan(krippendorff_alpha([[3, 0], [2, 0]], nominal(2)))
    assert np.isnan(krippendorff_alpha([[1, 0], [0, 1]], nominal(2)))
    found = alpha_with_interval(
        answer_counts([], [], 4), nominal(4), np.random.default_rng(0), samples=10
    )
    assert np.isnan(found.value) and found.n == 0


def test_pairwise_agreement_and_disputes_by_hand():
    counts = [[2, 1], [2, 0], [1, 0]]  # 1 of 3 pairs, 1 of 1, none
    assert pairwise_agreement(counts) == pytest.approx(2 / 4)
    assert disputes(counts) == pytest.approx([2 / 3, 0.0, np.nan], nan_ok=True)
    assert np.isnan(pairwise_agreement([[1, 0]]))


def test_counts_are_by_item_in_order_of_id():
    counts = answer_counts([7, 3, 7, 7], [0, 1, 1, 0], 2)
    assert counts.tolist() == [[0, 1], [2, 1]]


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (3, 10), (120, 200)])
def test_a_share_has_wilsons_interval(hits, n):
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    found = share(hits, n)
    assert (found.value, found.low, found.high) == pytest.approx((hits / n, *expected), abs=1e-9)


def test_a_share_of_nothing_is_nan():
    assert np.isnan(share(0, 0).value) and share(0, 0).n == 0
