"""What docs/algorithms say of the KL term's place and of scaled rewards, computed exactly.

One choice among four tokens, every expectation a sum, so that only the estimator and its place
differ.
"""

import itertools

import numpy as np
import pytest
import torch

from textgym.agents.algorithms.losses import group_advantages, kl_in_loss
from textgym.agents.rollouts.kl import kl_estimate

REFERENCE = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
REWARDS = torch.tensor([0.0, 0.2, 0.6, 1.0], dtype=torch.float64)
BETA = 0.5


def optimum(beta=BETA, rewards=REWARDS):
    """π* ∝ π_ref exp(r / β)."""
    return torch.softmax(REFERENCE.log() + rewards / beta, 0)


def distance(first, second):
    """Total variation."""
    return float((first - second).abs().sum() / 2)


def where_it_ends(loss_of, steps=1500, learning_rate=1.0, decay=1.0):
    """The policy after exact gradient steps from the reference; it may run off before."""
    logits = REFERENCE.log().clone().requires_grad_()
    for step in range(steps):
        (gradient,) = torch.autograd.grad(loss_of(logits.log_softmax(0)), logits)
        with torch.no_grad():
            logits -= learning_rate * decay**step * gradient
        if logits.softmax(0).min() < 1e-25:
            break
    return logits.detach().softmax(0)


def in_reward(log_p, estimator):
    estimate = kl_estimate(log_p.detach(), REFERENCE.log(), estimator)
    return -(log_p.exp().detach() * (REWARDS - BETA * estimate) * log_p).sum()


def in_loss(log_p, estimator):
    term = kl_in_loss(log_p, REFERENCE.log(), estimator)
    return (log_p.exp().detach() * (BETA * term - REWARDS * log_p)).sum()


def test_the_start_is_as_far_from_the_optimum_as_the_page_says():
    assert distance(REFERENCE, optimum()) == pytest.approx(0.278, abs=5e-4)


@pytest.mark.parametrize(
    ("place", "estimator", "expected"),
    [
        (in_reward, "k1", 0.000),
        (in_loss, "k2", 0.000),
        (in_loss, "k3", 0.222),
        (in_reward, "k2", 0.522),
    ],
)
def test_where_each_estimator_leads(place, estimator, expected):
    policy = where_it_ends(lambda log_p: place(log_p, estimator))
    assert distance(policy, optimum()) == pytest.approx(expected, abs=5e-3)


def test_k3_in_the_reward_lets_one_token_take_all():
    policy = where_it_ends(lambda log_p: in_reward(log_p, "k3"), steps=6000, learning_rate=0.05)
    assert policy.max() > 0.99


class Groups:
    """GRPO's expected loss over all groups of k completions, one token each."""

    def __init__(self, k=3, scale_rewards="none", rewards=REWARDS, kl_in="reward"):
        self.scale_rewards, self.rewards, self.kl_in = scale_rewards, rewards, kl_in
        self.members = torch.tensor(list(itertools.product(range(4), repeat=k)))  # [4^k, k]

    def __call__(self, log_p):
        totals = self.rewards
        if self.kl_in == "reward":
            totals = totals - BETA * kl_estimate(log_p.detach(), REFERENCE.log(), "k1")
        totals = np.asarray(totals[self.members])
        advantages = torch.as_tensor(group_advantages(totals, scale_rewards=self.scale_rewards))
        chance = log_p.exp().detach()[self.members].prod(1)
        loss = -(chance[:, None] * advantages * log_p[self.members]).sum() / totals.shape[1]
        if self.kl_in == "loss":
            loss = (
                loss
                + BETA * (log_p.exp().detach() * kl_in_loss(log_p, REFERENCE.log(), "k2")).sum()
            )
        return loss


@pytest.mark.parametrize("scale_rewards", ["none", "group", "batch"])
def test_with_the_kl_in_the_reward_scaling_leaves_the_optimum(scale_rewards):
    # Scaled steps do not get smaller by themselves: the learning rate has to.
    policy = where_it_ends(Groups(scale_rewards=scale_rewards), decay=0.99)
    assert distance(policy, optimum()) < 5e-3


def test_with_the_kl_in_the_loss_the_groups_mean_makes_beta_larger():
    for k in (2, 3, 4):
        policy = where_it_ends(Groups(k, kl_in="loss"))
        assert distance(policy, optimum(BETA * k / (k - 1))) < 1e-3
        assert distance(policy, optimum()) > 0.05


def test_with_the_kl_in_the_loss_scaling_by_the_group_forgets_the_rewards_size():
    ends = [
        where_it_ends(Groups(scale_rewards="group", kl_in="loss", rewards=size * REWARDS))
        for size in (1.0, 0.1)
    ]
    assert distance(*ends) < 0.01
    assert distance(optimum(), optimum(rewards=0.1 * REWARDS)) > 0.2
