"""Aggregates over seeds and prompts: equal to rliable's, and with the right influence values."""

import numpy as np
import pytest
from rliable import metrics

from textgym.agents.comparison.aggregates import (
    interquartile_mean,
    mean,
    paired_difference,
    probability_of_improvement,
)


def scores(seed, seeds=3, prompts=41):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((seeds, prompts)).round(1) + rng.standard_normal(prompts).round(1)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(1, 9), (3, 41), (5, 8)])
def test_point_estimates_are_those_of_rliable(seed, shape):
    one, other = scores(seed, *shape), scores(seed + 100, *shape)
    other[:, 0] = one[:, 0]  # ties
    assert mean(one).value == pytest.approx(metrics.aggregate_mean(one), abs=1e-12)
    assert interquartile_mean(one).value == pytest.approx(metrics.aggregate_iqm(one), abs=1e-12)
    if shape[0] > 1:  # rliable calls all prompts ties where two single seeds tie in one
        found = probability_of_improvement(one, other).value
        assert found == pytest.approx(metrics.probability_of_improvement(one, other), abs=1e-12)


def test_by_hand():
    one = np.array([[1.0, 2.0, 3.0, 10.0], [0.0, np.nan, 4.0, np.nan]])
    assert mean(one).value == pytest.approx(20 / 6)
    assert interquartile_mean(one).value == pytest.approx((1 + 2 + 3 + 4) / 4)  # 0 and 10 cut
    other = np.array([[1.0, 1.0, 5.0, 1.0], [1.0, 1.0, 1.0, np.nan]])
    # By prompt: (½ + ½ + 0 + 0) / 4, 1, (0 + 1 + 0 + 1) / 4, 1.
    assert probability_of_improvement(one, other).value == pytest.approx((0.25 + 1 + 0.5 + 1) / 4)
    # Where both speak: seed 0 at all prompts, seed 1 at the first and the third.
    assert paired_difference(one, other, mean).value == pytest.approx((0 + 1 - 2 + 9 - 1 + 3) / 6)


def test_influence_values_have_mean_0_and_are_0_where_nothing_is_said():
    one, other = scores(1, 4, 60), scores(2, 4, 60)
    one[1, 2] = np.nan
    figures = [mean(one), interquartile_mean(one), paired_difference(one, other)]
    assert all(figure.influence[1, 2] == 0 for figure in figures)
    for figure in (*figures, probability_of_improvement(one, other)):
        assert figure.influence.mean() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["mean", "interquartile_mean", "probability_of_improvement"])
def test_influence_values_foretell_what_leaving_out_a_seed_or_a_prompt_does(name):
    """To first order the aggregate without a row is value − its influence / (n − 1)."""
    one, other = scores(1, 12, 400), scores(2, 12, 400)

    def figure(x, y):
        if name == "probability_of_improvement":
            return probability_of_improvement(x, y)
        return {"mean": mean, "interquartile_mean": interquartile_mean}[name](x)

    whole = figure(one, other)
    for axis, n in ((0, 12), (1, 400)):
        left_out = [figure(np.delete(one, k, axis), np.delete(other, k, axis)) for k in range(n)]
        change = np.array([part.value for part in left_out]) - whole.value
        expected = -whole.influence.mean(axis=1 - axis) / (n - 1)
        assert np.abs(change - expected).max() < 0.08 * np.abs(expected).max()


def test_nothing_known_is_no_figure():
    nothing = np.full((2, 3), np.nan)
    assert np.isnan(mean(nothing).value) and np.isnan(interquartile_mean(nothing).value)
    assert np.isnan(probability_of_improvement(nothing, np.zeros((2, 3))).value)
    assert np.isnan(paired_difference(nothing, np.zeros((2, 3))).value)
