"""Small Bradley-Terry models on frozen features."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit

from textgym.errors import InputError
from textgym.reward_models.learned.pairs import Pairs, pair_accuracy
from textgym.reward_models.people.heads import NgramFeatures, WithHints, fit_heads


def pairs_of(rows):
    table = np.array(rows, float)
    return Pairs(table[:, 0].astype(int), table[:, 1].astype(int), table[:, 2])


def test_one_weight_is_where_the_slope_is_zero():
    """Feature 1 against 0: 3 wins, 1 loss, 2 ties of 6; the optimum of one number, by bisection."""
    features = np.array([[1.0], [0.0]])
    answers = pairs_of([(0, 1, 1)] * 3 + [(0, 1, 0)] + [(0, 1, 0.5)] * 2)
    heads = fit_heads(features, answers, members=1, precision=0.6)
    expected = brentq(lambda w: 6 * expit(w) - 4 + 0.6 * w, -10, 10)
    assert heads.weights[0, 0] == pytest.approx(expected, abs=1e-4)
    assert heads.preferences(features[:1], features[1:])[0, 0] == pytest.approx(
        expit(expected), 1e-4
    )


def test_ties_pull_together():
    features = np.eye(2)
    decided = fit_heads(features, pairs_of([(0, 1, 1)] * 4), members=1, precision=0.1)
    tied = fit_heads(
        features, pairs_of([(0, 1, 1)] * 4 + [(0, 1, 0.5)] * 8), members=1, precision=0.1
    )
    gap = [float(np.ptp(heads.weights[0])) for heads in (decided, tied)]
    assert 0 < gap[1] < gap[0] / 2


def test_scores_are_standardised_on_the_texts_of_the_fit():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 4))
    answers = pairs_of([(i, i + 1, float(features[i, 0] > features[i + 1, 0])) for i in range(29)])
    heads = fit_heads(features, answers, members=3)
    scores = heads.scores(features)
    assert scores.shape == (3, 30)
    assert scores.mean(axis=1) == pytest.approx(np.zeros(3), abs=1e-12)
    assert scores.std(axis=1) == pytest.approx(np.ones(3))
    assert pair_accuracy(scores.mean(axis=0), answers) > 0.9


def test_members_see_other_draws_the_same_every_time():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(20, 3))
    answers = pairs_of([(i, i + 1, float(i % 3 > 0)) for i in range(19)])
    three, five = (fit_heads(features, answers, members=k, seed=7).weights for k in (3, 5))
    assert np.array_equal(three, five[:3])
    assert np.array_equal(five, fit_heads(features, answers, members=5, seed=7).weights)
    assert len({row.tobytes() for row in five}) == 5
    assert not np.array_equal(five, fit_heads(features, answers, members=5, seed=8).weights)


def test_a_fit_without_a_decided_pair_is_refused():
    with pytest.raises(InputError, match=r"an answer that is no tie, got 5 members and 1 answer$"):
        fit_heads(np.eye(2), pairs_of([(0, 1, 0.5)]))


def test_ngrams_keep_inner_products_and_every_text_is_its_own():
    texts = ["a good film", "a good film!", "zzz qqq", ""]
    rows = NgramFeatures(4096)(texts)
    assert rows.shape == (4, 4096)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1, 1, 0])
    assert rows[0] @ rows[1] > 0.8
    assert abs(rows[0] @ rows[2]) < 0.2
    assert np.array_equal(NgramFeatures(4096)(texts[1:2])[0], rows[1])
    with pytest.raises(InputError, match="a power of two from 256, got 300"):
        NgramFeatures(300)


def test_hints_are_columns_beside_the_others():
    plain = NgramFeatures(256)
    both = WithHints(plain, {"length": lambda texts: [len(text) for text in texts]})
    assert (both.size, both.name) == (257, "ngrams-256+length")
    rows = both(["ab", "abc"])
    assert np.array_equal(rows[:, :256], plain(["ab", "abc"]))
    assert rows[:, 256].tolist() == [2, 3]
