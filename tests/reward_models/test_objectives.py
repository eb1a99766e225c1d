"""Objectives of learned reward models: losses and probabilities against numbers by hand."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from textgym.errors import InputError, UnknownNameError
from textgym.reward_models.learned.objectives import (
    OBJECTIVES,
    BradleyTerry,
    Classifier,
    Davidson,
    Ordinal,
    Regression,
    bradley_terry_loss,
    objective_named,
)
from textgym.reward_models.learned.pairs import Pairs, Ratings, all_rater_pairs, rater_pairs
from textgym.saved_fields import SavedFields


def judged(pairs=None, ratings=None):
    empty = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return SimpleNamespace(pairs=pairs or empty, ratings=ratings)


def three(label, ties=None):
    first, second = np.array([0, 1, 0]), np.array([1, 2, 2])
    return Pairs(first, second, np.array(label), None if ties is None else np.array(ties))


SCORES = torch.tensor([1.0, 0.0, -0.5], dtype=torch.float64)


def test_bradley_terry_is_its_loss_on_the_pairs():
    pairs = three([1.0, 0.5, 0.25])
    first, second = SCORES[[0, 1, 0]], SCORES[[1, 2, 2]]
    expected = bradley_terry_loss(first, second, torch.from_numpy(pairs.label))
    assert BradleyTerry().loss(SCORES, judged(pairs)) == expected


def test_davidson_by_hand():
    """Strengths 2 and 1 and nu = 1: win, tie and loss are as 2 : sqrt 2 : 1."""
    objective = Davidson()
    scores = torch.tensor([math.log(2), 0.0], dtype=torch.float64)
    total = 2 + math.sqrt(2) + 1
    for label, weight in ((1.0, 2), (0.5, math.sqrt(2)), (0.0, 1)):
        pairs = Pairs(np.array([0]), np.array([1]), np.array([label]))
        loss = objective.loss(scores, judged(pairs)).item()
        assert loss == pytest.approx(-math.log(weight / total))
    one, other = np.array([math.log(2)]), np.array([0.0])
    assert objective.win_probability(one, other) == pytest.approx([2 / 3])


def test_davidson_takes_shares_of_ties_and_finds_nu():
    """Texts of one strength of which a third of the pairs are ties: nu = 1."""
    pairs = Pairs(np.array([0]), np.array([1]), np.array([0.5]), np.array([1 / 3]))
    objective = Davidson().double()
    scores = torch.zeros(2, dtype=torch.float64)
    objective.loss(scores, judged(pairs)).backward()
    assert objective.log_nu.grad.item() == pytest.approx(0.0)
    tied = Pairs(np.array([0]), np.array([1]), np.array([0.5]))  # by itself a label of .5 is a tie
    objective.log_nu.grad = None
    objective.loss(scores, judged(tied)).backward()
    assert objective.log_nu.grad.item() == pytest.approx(-2 / 3)


def test_regression_by_hand():
    ratings = Ratings(np.array([0, 0, 1]), np.array([3.0, 5.0, 1.0]))
    objective = Regression.of(ratings)
    assert (objective.mean, objective.std) == (3.0, pytest.approx(math.sqrt(8 / 3)))
    z = (np.array([3.0, 5.0, 1.0]) - 3) / objective.std
    loss = objective.loss(SCORES, judged(ratings=ratings)).item()
    assert loss == pytest.approx(np.mean((z - [1, 1, 0]) ** 2) / 2)
    with torch.no_grad():
        objective.log_noise.fill_(math.log(2.0))
    loss = objective.loss(SCORES, judged(ratings=ratings)).item()
    assert loss == pytest.approx(math.log(2) + np.mean((z - [1, 1, 0]) ** 2) / 8)
    win = objective.win_probability(np.array([1.0]), np.array([0.0]))
    assert win == pytest.approx([norm.cdf(1 / math.sqrt(8))])


def test_classifier_by_hand():
    ratings = Ratings(np.array([0, 1, 1]), np.array([4.0, 0.0, 2.0]))
    objective = Classifier.of(ratings)
    assert objective.threshold == 2.0
    loss = objective.loss(SCORES, judged(ratings=ratings)).item()
    by_hand = [math.log(1 + math.exp(-1)), math.log(2), math.log(2)]
    assert loss == pytest.approx(np.mean(by_hand))
    p, q = (1 / (1 + math.exp(-x)) for x in (1.0, -0.5))
    win = objective.win_probability(np.array([1.0]), np.array([-0.5]))
    assert win == pytest.approx([p * (1 - q) / (p * (1 - q) + q * (1 - p))])


def test_ordinal_by_hand():
    ratings = Ratings(np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 2.0, 4.0]))
    objective = Ordinal.of(ratings)
    assert objective.levels.tolist() == [1.0, 2.0, 4.0]
    cuts = objective.thresholds().detach().numpy()
    assert cuts == pytest.approx([math.log(1 / 3), math.log(3)], abs=1e-6)  # .25 and .75 below

    def below(cut, score):
        return 1 / (1 + math.exp(score - cut))

    shares = [[below(cuts[0], s), below(cuts[1], s)] for s in (1.0, 0.0)]
    levels = [[a, b - a, 1 - b] for a, b in shares]
    with torch.no_grad():
        found = objective.level_probabilities(SCORES[:2])
    assert np.allclose(found, levels, atol=1e-6)
    loss = objective.loss(SCORES, judged(ratings=ratings)).item()
    chances = [levels[0][0], levels[0][1], levels[1][1], levels[1][2]]
    assert loss == pytest.approx(-np.mean(np.log(chances)), abs=1e-6)
    above = sum(levels[0][i] * levels[1][j] for i in range(3) for j in range(3) if i > j)
    under = sum(levels[0][i] * levels[1][j] for i in range(3) for j in range(3) if i < j)
    win = objective.win_probability(np.array([1.0]), np.array([0.0]))
    assert win == pytest.approx([above / (above + under)], abs=1e-6)


def test_what_cannot_be_learned_is_refused():
    for name in ("regression", "classifier", "ordinal"):
        with pytest.raises(InputError, match="learns from ratings, got preferences"):
            OBJECTIVES[name].of(None)
    with pytest.raises(InputError, match="round the ratings"):
        Ordinal(np.arange(30.0))
    with pytest.raises(UnknownNameError, match="davidson"):
        objective_named("davidsen")


@pytest.mark.parametrize("name", OBJECTIVES)
def test_settings_come_back(name):
    ratings = Ratings(np.array([0, 1, 2]), np.array([1.0, 2.0, 4.0]))
    made = OBJECTIVES[name].of(ratings)
    again = OBJECTIVES[name].read(SavedFields(made.settings(), "here"))
    again.load_state_dict(made.state_dict())
    one, other = np.array([0.3, -1.0]), np.array([0.0, 2.0])
    assert again.win_probability(one, other).tolist() == made.win_probability(one, other).tolist()


def test_all_rater_pairs_are_the_mean_of_what_single_raters_say():
    rows = [
        SimpleNamespace(text="a", ratings=(1, 2, 3), block=0),
        SimpleNamespace(text="b", ratings=(2, 2, 1), block=0),
        SimpleNamespace(text="c", ratings=(0, 5), block=None),
        SimpleNamespace(text="d", ratings=(1,), block=None),
    ]
    pairs = all_rater_pairs(rows, np.random.default_rng(0))
    known = {(int(a), int(b)): (x, t) for a, b, x, t in zip(*(
        pairs.first, pairs.second, pairs.label, pairs.tie_share), strict=True)}  # fmt: skip
    label, ties = known.get((0, 1)) or (1 - known[1, 0][0], known[1, 0][1])
    assert (label, ties) == (pytest.approx((0 + 0.5 + 1) / 3), pytest.approx(1 / 3))
    label, ties = known.get((2, 3)) or (1 - known[3, 2][0], known[3, 2][1])
    assert (label, ties) == (0.5, 0.0)
    drawn = rater_pairs(rows[:2], np.random.default_rng(0), draws=3000)
    first_is_a = np.where(drawn.first == 0, drawn.label, 1 - drawn.label)
    assert first_is_a.mean() == pytest.approx(0.5, abs=0.03)
