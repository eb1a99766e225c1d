"""Intervals over seeds and prompts: the analysis of variance, and how often they hold the truth."""

import itertools

import numpy as np
import pytest
from scipy import stats

from textgym.agents.comparison.aggregates import (
    Aggregate,
    interquartile_mean,
    mean,
    paired_difference,
)
from textgym.agents.comparison.intervals import (
    interval_of,
    mixed_df,
    t_quantile,
    variance_of,
)
from textgym.agents.comparison.simultaneous import separate_intervals, simultaneous_intervals


def test_the_variance_is_that_of_two_crossed_random_effects():
    """Mean squares by hand, by loops."""
    values = np.random.default_rng(0).standard_normal((4, 7)) + np.arange(7)
    n, m = values.shape
    grand = values.mean()
    ms_seed = m * sum((row.mean() - grand) ** 2 for row in values) / (n - 1)
    ms_prompt = n * sum((column.mean() - grand) ** 2 for column in values.T) / (m - 1)
    rest = [
        (values[s, p] - values[s].mean() - values[:, p].mean() + grand) ** 2
        for s in range(n)
        for p in range(m)
    ]
    ms_rest = sum(rest) / ((n - 1) * (m - 1))
    found = variance_of(values)
    assert found.seeds == pytest.approx(ms_seed / (n * m))
    assert found.prompts == pytest.approx((ms_prompt - ms_rest) / (n * m))
    assert found.total == pytest.approx((ms_seed + ms_prompt - ms_rest) / (n * m))
    assert mixed_df(3.0, 1.0, 4, 7) == pytest.approx(1 / (0.75 / 3 + 0.25 / 6))


def test_with_seeds_alone_it_is_students_interval_of_the_seeds_means():
    values = np.repeat([[0.1], [0.4], [0.2]], 50, axis=1)
    found = interval_of(mean(values))
    low, high = stats.t.interval(0.95, 2, values[:, 0].mean(), stats.sem(values[:, 0]))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.seeds == 3 and not found.excludes_zero


def test_one_seed_gives_an_interval_over_prompts():
    values = np.arange(12.0)[None]
    found = interval_of(mean(values))
    low, high = stats.t.interval(0.95, 11, 5.5, stats.sem(values[0]))
    assert (found.low, found.high, found.seeds) == (pytest.approx(low), pytest.approx(high), 1)


def test_where_nothing_can_be_said_the_ends_are_nan():
    assert np.isnan(interval_of(mean(np.full((2, 3), np.nan))).low)
    alone = interval_of(mean(np.array([[1.5]])))
    assert alone.value == 1.5 and np.isnan(alone.low)
    assert not alone.excludes_zero


def test_what_does_not_vary_has_an_interval_without_width():
    found = interval_of(interquartile_mean(np.ones((3, 8))))
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_seeds_that_agree_by_chance_leave_the_chance_of_the_texts():
    # Both seeds won on half of the prompts: their means are equal, and the texts are not.
    wins = np.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    found = interval_of(mean(wins), within=(0.0, 1.0))
    noise = ((wins - 0.5) ** 2).sum() / 3 / (2 * 4)
    half = stats.t.ppf(0.975, 3) * noise**0.5
    assert (found.low, found.high) == (pytest.approx(max(0, 0.5 - half)), min(1, 0.5 + half))
    assert half > 0.4


def test_ends_stay_within_what_is_possible():
    sharp = interval_of(
        Aggregate(0.95, np.random.default_rng(0).normal(size=(3, 5))), within=(0, 1)
    )
    assert sharp.high == 1 and sharp.low >= 0


def simulated(rng, cells, seeds, prompts, spread, shared=0.0):
    """Scores `[cell, seed, prompt]` of cells that do not differ."""
    spread = np.broadcast_to(spread, cells)[:, None, None]
    scores = spread * rng.standard_normal((cells, seeds, 1))
    scores = scores + shared * rng.standard_normal((1, seeds, 1))
    scores = scores + 0.4 * rng.standard_normal((1, 1, prompts))
    scores = scores + 0.2 * rng.standard_normal((cells, 1, prompts))
    return scores + 0.9 * rng.standard_normal((cells, seeds, prompts))


def percentile_bootstrap(scores, rng, draws=150):
    """The common interval: seeds and prompts redrawn."""
    seeds, prompts = scores.shape
    rows = rng.integers(seeds, size=(draws, seeds, 1))
    drawn = scores[rows, rng.integers(prompts, size=(draws, 1, prompts))].reshape(draws, -1)
    return np.quantile(stats.trim_mean(drawn, 0.25, axis=1), (0.025, 0.975))


@pytest.mark.parametrize("spread", [0.07, 0.3])
def test_intervals_of_three_seeds_cover_and_those_of_a_percentile_bootstrap_do_not(spread):
    """It counts noise three times and three seeds' spread with 2/3: too wide, then too narrow."""
    rng, n = np.random.default_rng(3), 600
    hits = {"iqm": 0, "mean": 0, "difference": 0, "percentile": 0}
    for k in range(n):
        one, other = simulated(rng, 2, 3, 60, spread)
        for name, figure in (
            ("iqm", interquartile_mean(one)),
            ("mean", mean(one)),
            ("difference", paired_difference(one, other)),
        ):
            found = interval_of(figure)
            hits[name] += found.low <= 0 <= found.high
        if k % 2 == 0:
            low, high = percentile_bootstrap(one, rng)
            hits["percentile"] += 2 * (low <= 0 <= high)
    shares = {name: count / n for name, count in hits.items()}
    for name in ("iqm", "mean", "difference"):
        assert 0.93 <= shares[name] <= 0.97, shares
    assert not 0.93 <= shares["percentile"] <= 0.97, shares


PAIRS = list(itertools.combinations(range(4), 2))


def differences(scores, pairs):
    return [paired_difference(scores[i], scores[k], mean) for i, k in pairs]


def influences(scores):
    return [mean(of_cell).influence for of_cell in scores]


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.07), (5, [0.25, 0.04, 0.04, 0.04])])
def test_simultaneous_intervals_hold_together_and_uncorrected_ones_do_not(seeds, spread):
    rng, n = np.random.default_rng(4), 250
    together = one_by_one = 0
    for _ in range(n):
        scores = simulated(rng, 4, seeds, 40, spread)
        figures = differences(scores, PAIRS)
        found = simultaneous_intervals(influences(scores), figures, PAIRS, draws=300)
        together += not any(interval.excludes_zero for interval in found)
        one_by_one += not any(interval_of(figure).excludes_zero for figure in figures)
    assert 0.92 <= together / n <= 0.985
    assert one_by_one / n < 0.88


def test_gains_on_the_start_hold_together_and_uncorrected_ones_do_not():
    rng, n = np.random.default_rng(4), 400
    together = one_by_one = 0
    for _ in range(n):
        *scores, start = simulated(rng, 5, 3, 40, 0.1)
        gains = [paired_difference(of_cell, start, mean) for of_cell in scores]
        together += not any(i.excludes_zero for i in separate_intervals(gains))
        one_by_one += not any(interval_of(gain).excludes_zero for gain in gains)
    assert 0.93 <= together / n <= 0.99
    assert one_by_one / n < 0.9


def test_equal_variances_and_many_seeds_give_tukeys_intervals():
    """The studentized range (Tukey 1953) is the exact answer there."""
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.standard_normal((5, 80, 1)), 3, axis=2)  # seeds vary, prompts do not
    pairs = list(itertools.combinations(range(5), 2))
    figures = differences(scores, pairs)
    found = simultaneous_intervals(influences(scores), figures, pairs, draws=8000)
    error = (scores[:, :, 0].var(axis=1, ddof=1).mean() / 80) ** 0.5
    half = stats.studentized_range.ppf(0.95, 5, 5 * 79) * error
    widths = np.array([(i.high - i.low) / 2 for i in found])
    assert widths.mean() == pytest.approx(half, rel=0.04)


def test_simultaneous_intervals_are_the_same_again_and_a_single_one_is_not_widened():
    scores = simulated(np.random.default_rng(5), 4, 5, 60, 0.07)
    figures = differences(scores, PAIRS)
    parts = influences(scores)
    found = simultaneous_intervals(parts, figures, PAIRS)
    assert found == simultaneous_intervals(parts, figures, PAIRS)
    assert [i.value for i in found] == [figure.value for figure in figures]
    one = simultaneous_intervals(parts[:2], figures[:1], PAIRS[:1])
    assert one == separate_intervals(figures[:1]) == [interval_of(figures[0])]


def test_what_cells_of_a_seed_share_cancels():
    scores = simulated(np.random.default_rng(6), 4, 4, 50, 0.1)
    shared = scores + np.array([0.0, 3.0, -5.0, 1.0])[None, :, None]
    for one, other in zip(
        simultaneous_intervals(influences(scores), differences(scores, PAIRS), PAIRS),
        simultaneous_intervals(influences(shared), differences(shared, PAIRS), PAIRS),
        strict=True,
    ):
        assert (one.low, one.high) == pytest.approx((other.low, other.high))


def test_a_cell_without_some_seeds_is_compared_on_those_that_both_have():
    scores = simulated(np.random.default_rng(6), 3, 4, 50, 0.1)
    pairs = [(0, 1), (0, 2), (1, 2)]
    parts = influences(scores)
    has = np.arange(4) < 2
    parts[2] = np.full_like(parts[2], np.nan)
    parts[2][has] = mean(scores[2][has]).influence
    figures = [
        paired_difference(scores[0], scores[1], mean),
        *(paired_difference(scores[k][has], scores[2][has], mean) for k in (0, 1)),
    ]
    found = simultaneous_intervals(parts, figures, pairs)
    assert [interval.seeds for interval in found] == [4, 2, 2]
    assert [interval.value for interval in found] == [figure.value for figure in figures]
    assert all(0 < interval.high - interval.low < 50 for interval in found)


def test_unscored_texts_leave_fewer_pairs_and_wider_intervals():
    """Of 30% unscored texts half of the pairs are left; Tukey's intervals of those that are."""
    rng = np.random.default_rng(8)
    scores = rng.standard_normal((3, 30, 60))
    scores[rng.random(scores.shape) < 0.3] = np.nan
    pairs = [(0, 1), (0, 2), (1, 2)]
    figures = differences(scores, pairs)
    found = simultaneous_intervals(influences(scores), figures, pairs)
    widths = np.mean([interval.high - interval.low for interval in found]) / 2
    error = np.mean([2 / (~np.isnan(scores[i] + scores[k])).sum() for i, k in pairs]) ** 0.5
    assert widths == pytest.approx(
        stats.studentized_range.ppf(0.95, 3, 87) / 2**0.5 * error, rel=0.1
    )


def test_one_seed_gives_simultaneous_intervals_over_prompts():
    scores = simulated(np.random.default_rng(7), 3, 1, 200, 0.0)
    pairs = [(0, 1), (0, 2), (1, 2)]
    figures = differences(scores, pairs)
    found = simultaneous_intervals(influences(scores), figures, pairs)
    errors = [variance_of(figure.influence).total ** 0.5 for figure in figures]
    quantiles = [(i.high - i.low) / 2 / e for i, e in zip(found, errors, strict=True)]
    tukey = stats.studentized_range.ppf(0.95, 3, 600) / 2**0.5
    assert quantiles == pytest.approx([tukey] * 3, rel=0.05)


def test_an_interval_that_says_nothing_is_left_out():
    quiet = np.random.default_rng(0).normal(0, 0.05, (2, 40))
    hushed, loud = quiet.copy(), quiet.copy()
    hushed[0] += 2.0  # a spread of seeds that one degree of freedom makes thousands of SD
    loud += 50.0
    gains = [mean(scores) for scores in (hushed, loud, *[quiet] * 8)]
    wide, far, *_ = separate_intervals(gains)
    assert wide.value == pytest.approx(1.0, abs=0.1)
    assert np.isnan([wide.low, wide.high]).all() and not wide.excludes_zero
    assert far.low > 0


def test_students_t():
    assert t_quantile(0.05, 4) == pytest.approx(stats.t.isf(0.025, 4))
