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
from textgym.agents.comparison.simultaneous import simultaneous_level


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


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.07), (5, [0.25, 0.04, 0.04, 0.04])])
def test_simultaneous_intervals_hold_together_and_uncorrected_ones_do_not(seeds, spread):
    rng, n = np.random.default_rng(4), 250
    pairs = list(itertools.combinations(range(4), 2))
    together = one_by_one = 0
    for _ in range(n):
        scores = simulated(rng, 4, seeds, 40, spread)
        level = simultaneous_level([mean(s).influence for s in scores], pairs, draws=400)
        figures = [paired_difference(scores[i], scores[k], mean) for i, k in pairs]
        together += not any(interval_of(f, level=level).excludes_zero for f in figures)
        one_by_one += not any(interval_of(f).excludes_zero for f in figures)
    assert 0.92 <= together / n <= 0.985
    assert one_by_one / n < 0.88


def test_the_level_lies_between_no_correction_and_bonferronis_and_is_the_same_again():
    scores = simulated(np.random.default_rng(5), 6, 5, 100, 0.07)
    parts = [mean(s).influence for s in scores]
    pairs = list(itertools.combinations(range(6), 2))
    level = simultaneous_level(parts, pairs)
    assert level == simultaneous_level(parts, pairs)
    assert 0.8 * 0.05 / len(pairs) < level < 0.05 / 3
    assert simultaneous_level(parts, pairs[:1]) == pytest.approx(0.05, abs=1e-12)
    assert t_quantile(0.05, 4) == pytest.approx(stats.t.isf(0.025, 4))


def test_equal_variances_and_many_seeds_give_tukeys_level():
    """The studentized range (Tukey 1953) is the exact answer there."""
    parts = [np.random.default_rng(k).standard_normal((60, 50)) for k in range(5)]
    parts = [p - p.mean(axis=1, keepdims=True) + p[:, :1] for p in parts]  # seeds, no prompts
    level = simultaneous_level(parts, list(itertools.combinations(range(5), 2)), draws=8000)
    range_point = stats.studentized_range.ppf(0.95, 5, 5 * 59) / 2**0.5
    assert level == pytest.approx(2 * stats.norm.sf(range_point), rel=0.2)


def test_seeds_that_a_cell_does_not_have_count_in_no_pair():
    """Cell 2 has seeds 0 and 1: the level is that of the same study where 2 never ran more."""
    parts = [mean(s).influence for s in simulated(np.random.default_rng(6), 3, 4, 50, 0.1)]
    whole = simultaneous_level(parts, [(0, 1), (0, 2), (1, 2)])
    parts[2] = np.where(np.arange(4)[:, None] < 2, parts[2], np.nan)
    fewer = simultaneous_level(parts, [(0, 1), (0, 2), (1, 2)])
    assert 0 < fewer <= 0.05 and fewer != whole
    parts[2][:] = np.nan
    assert simultaneous_level(parts, [(0, 1), (0, 2), (1, 2)]) == pytest.approx(0.05, abs=0.01)
