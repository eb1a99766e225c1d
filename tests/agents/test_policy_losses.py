"""Advantages and losses of the algorithms without a critic, against numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch

from textgym.agents.algorithms.losses import (
    aggregate,
    best_and_worst,
    clipped_surrogate,
    group_advantages,
    kl_in_loss,
    leave_one_out_advantages,
    preference_loss,
    sequence_log_ratio,
)
from textgym.errors import InputError

TOTALS = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 6.0]])  # one row a group


# ---- advantages ------------------------------------------------------------


@pytest.mark.parametrize(
    "scale, expected",
    [
        ("none", [[-1, 1], [0, 0], [-3, 3]]),
        # Standard deviations with Bessel's correction: √2, 0 and √18, each plus 1e-4.
        ("group", [[-0.7070568, 0.7070568], [0, 0], [-0.7070901, 0.7070901]]),
        # Of all six, around their mean of 7/3: √(64/15) = 2.0655911.
        ("batch", [[-0.4840995, 0.4840995], [0, 0], [-1.4522986, 1.4522986]]),
    ],
)
def test_group_advantages_by_hand(scale, expected):
    np.testing.assert_allclose(group_advantages(TOTALS, scale_rewards=scale), expected, atol=1e-6)


def test_each_group_has_a_mean_of_its_own():
    shifted = TOTALS + np.array([[10.0], [-7.0], [100.0]])
    np.testing.assert_allclose(group_advantages(shifted), group_advantages(TOTALS), atol=1e-12)


def test_an_unknown_scale_is_refused():
    with pytest.raises(InputError, match="one of group, batch, none, got 'groups'"):
        group_advantages(TOTALS, scale_rewards="groups")


def test_leave_one_out_by_hand():
    # The others' means: (2 + 6) / 2, (1 + 6) / 2 and (1 + 2) / 2.
    totals = np.array([[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]])
    expected = [[-3.0, -1.5, 4.5], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(leave_one_out_advantages(totals), expected)
    np.testing.assert_allclose(leave_one_out_advantages(totals), 3 / 2 * group_advantages(totals))


@pytest.mark.parametrize("k", [2, 3, 8])
def test_leave_one_out_is_the_group_advantage_times_k_over_k_less_1(k):
    totals = np.random.default_rng(0).normal(size=(4, k))
    others = (totals.sum(1, keepdims=True) - totals) / (k - 1)
    np.testing.assert_allclose(leave_one_out_advantages(totals), totals - others)
    np.testing.assert_allclose(totals - others, k / (k - 1) * group_advantages(totals))


# ---- the surrogate ---------------------------------------------------------


@pytest.mark.parametrize(
    "ratio, advantage, loss, gradient",
    [
        (1.5, 2.0, -2.56, 0.0),  # beyond 1.28: no reason to go further
        (1.5, -2.0, 3.0, 3.0),  # the wrong way: pulled back, however far
        (0.5, 2.0, -1.0, -1.0),
        (0.5, -2.0, 1.6, 0.0),  # below 0.8
        (1.25, 1.0, -1.25, -1.25),  # inside only because the upper side is the wider one
        (1.0, -3.0, 3.0, 3.0),
    ],
)
def test_the_clipped_surrogate_and_its_gradient_by_hand(ratio, advantage, loss, gradient):
    log_ratio = torch.tensor([math.log(ratio)], requires_grad=True)
    value = clipped_surrogate(log_ratio, torch.tensor([advantage]), 0.2, 0.28)
    value.sum().backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert log_ratio.grad.item() == pytest.approx(gradient, abs=1e-6)


def test_the_ratio_of_a_sequence_and_its_gradient_by_hand():
    log_ratio = torch.tensor([0.1, 0.3, -0.6], requires_grad=True)
    episode_of, lengths = torch.tensor([0, 0, 1]), torch.tensor([2, 1])
    mean = sequence_log_ratio(log_ratio, episode_of, lengths)
    torch.testing.assert_close(mean, torch.tensor([0.2, 0.2, -0.6]))
    advantages = torch.tensor([2.0, 2.0, 1.0])
    per_token = clipped_surrogate(mean, advantages, 0.9, 0.9)
    loss = aggregate(per_token, episode_of, lengths, "grpo", 9)
    loss.backward()
    # GSPO's eq. 5: the mean over both texts of -exp(mean log-ratio) · advantage.
    both = 2.0 * math.exp(0.2), math.exp(-0.6)
    assert loss.item() == pytest.approx(-sum(both) / 2, abs=1e-6)
    expected = [-both[0] / 4, -both[0] / 4, -both[1] / 2]
    torch.testing.assert_close(log_ratio.grad, torch.tensor(expected))


@pytest.mark.parametrize("loss_type, expected", [("grpo", 3.0), ("dapo", 2.5), ("dr_grpo", 1.0)])
def test_aggregations_by_hand(loss_type, expected):
    per_token, episode_of = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0, 0, 0, 1])
    # ((1 + 2 + 3) / 3 + 4) / 2, 10 / 4, and (6 / 5 + 4 / 5) / 2.
    lengths = torch.tensor([3, 1])
    assert float(aggregate(per_token, episode_of, lengths, loss_type, 5)) == expected


def test_an_unknown_aggregation_is_refused():
    one = torch.ones(1)
    with pytest.raises(InputError, match="one of grpo, dapo, dr_grpo, got 'bnpo'"):
        aggregate(one, torch.zeros(1, dtype=torch.int64), torch.ones(1), "bnpo", 1)


# ---- the KL term in the loss -----------------------------------------------


def expected_gradient(per_action, logits):
    """Σ_a π(a) ∇ per_action[a], the sampled actions' probabilities held fixed."""
    weights = logits.softmax(-1).detach()
    return torch.autograd.grad((weights * per_action).sum(), logits)[0]


def logits_and_reference():
    generator = torch.Generator().manual_seed(0)
    both = torch.randn(2, 6, generator=generator, dtype=torch.float64)
    return both[0].requires_grad_(), both[1].log_softmax(-1)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_a_kl_term_in_the_loss_has_the_exact_gradient_of_a_divergence(estimator):
    logits, reference = logits_and_reference()
    ours = logits.log_softmax(-1)
    if estimator == "k2":
        divergence = (ours.exp() * (ours - reference)).sum()  # KL(π, π_ref)
    else:
        divergence = (reference.exp() * (reference - ours)).sum()  # KL(π_ref, π)
    exact = torch.autograd.grad(divergence, logits, retain_graph=True)[0]
    sampled = expected_gradient(kl_in_loss(ours, reference, estimator), logits)
    torch.testing.assert_close(sampled, exact)
    assert exact.abs().max() > 0.1


def test_k1_is_refused_because_its_gradient_is_zero_on_average():
    logits, reference = logits_and_reference()
    ours = logits.log_softmax(-1)
    assert expected_gradient(ours - reference, logits).abs().max() < 1e-12
    with pytest.raises(InputError, match="needs kl_estimator 'k2' or 'k3', got 'k1'"):
        kl_in_loss(ours, reference, "k1")


def test_k2_and_k3_by_hand():
    ours, reference = torch.tensor([0.5, 0.25]).log(), torch.tensor([0.25, 0.5]).log()
    two = math.log(2)
    expected = torch.tensor([two**2 / 2, two**2 / 2])
    torch.testing.assert_close(kl_in_loss(ours, reference, "k2"), expected)
    expected = torch.tensor([0.5 - 1 + two, 2 - 1 - two])
    torch.testing.assert_close(kl_in_loss(ours, reference, "k3"), expected)


# ---- pairs -----------------------------------------------------------------


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, 0.3132617),  # log(1 + e⁻¹): β · margin is 1
        ({"label_smoothing": 0.1}, 0.4132617),  # 0.9 · 0.3132617 + 0.1 · 1.3132617
        ({"loss_type": "ipo"}, 1.0),  # (2 - 1 / (2 · 0.5))²
    ],
)
def test_preference_losses_by_hand(options, expected):
    loss = preference_loss(torch.tensor([1.5]), torch.tensor([-0.5]), 0.5, **options)
    assert loss.tolist() == pytest.approx([expected], abs=1e-6)


def test_the_gradient_of_dpo_weighs_a_pair_by_how_wrong_it_is():
    chosen = torch.tensor([1.5, -3.0], requires_grad=True)
    rejected = torch.tensor([-0.5, 3.0], requires_grad=True)
    preference_loss(chosen, rejected, 0.5).sum().backward()
    sigmoid = [1 / (1 + math.exp(1)), 1 / (1 + math.exp(-3))]  # of -β · margin
    expected = torch.tensor([-0.5 * s for s in sigmoid])
    torch.testing.assert_close(chosen.grad, expected)
    torch.testing.assert_close(rejected.grad, -expected)


def test_ipo_pulls_the_margin_back_where_it_is_too_wide():
    margins = torch.tensor([0.5, 1.0, 3.0], requires_grad=True)
    preference_loss(margins, torch.zeros(3), 0.5, loss_type="ipo").sum().backward()
    assert margins.grad.tolist() == pytest.approx([-1.0, 0.0, 4.0])


def test_an_unknown_preference_loss_is_refused():
    with pytest.raises(InputError, match="loss_type must be sigmoid or ipo, got 'hinge'"):
        preference_loss(torch.ones(1), torch.zeros(1), 0.1, loss_type="hinge")


# ---- episodes that are left out (NaN) ----------------------------------------

NAN = math.nan
KEPT = np.array([[-1.0, NAN, -4.0], [NAN, NAN, 2.0], [NAN, NAN, NAN]])


def test_group_advantages_of_the_episodes_that_are_kept_by_hand():
    # Means: -2.5, 2, none. Deviations: √4.5 and 0; of all three that are kept √(18 / 2) = 3.
    expected = np.array([[1.5, NAN, -1.5], [NAN, NAN, 0.0], [NAN, NAN, NAN]])
    np.testing.assert_allclose(group_advantages(KEPT), expected)
    scaled = group_advantages(KEPT, scale_rewards="group")
    np.testing.assert_allclose(scaled, expected / (math.sqrt(4.5) + 1e-4), atol=1e-12)
    scaled = group_advantages(KEPT, scale_rewards="batch")
    np.testing.assert_allclose(scaled, expected / (3.0 + 1e-4))


def test_leave_one_out_of_the_episodes_that_are_kept_by_hand():
    # Each of the first group against the other; the one of the second has none to compare with.
    expected = [[3.0, NAN, -3.0], [NAN, NAN, 0.0], [NAN, NAN, NAN]]
    np.testing.assert_allclose(leave_one_out_advantages(KEPT), expected)


def test_best_and_worst_are_among_the_kept():
    best, worst, is_equal = best_and_worst(np.vstack([KEPT, [[5.0, 5.0, NAN]]]))
    assert (best[0], worst[0]) == (0, 2)
    assert is_equal.tolist() == [False, True, True, True]
