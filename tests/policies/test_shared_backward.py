"""One backward pass for all weights: the same gradients, to second order, as one pass for each."""

import copy

import torch
from sb3_contrib import TRPO
from stable_baselines3.common.distributions import CategoricalDistribution
from torch.distributions import kl_divergence

import textgym
from textgym.policies import CausalLM, TextActorCriticPolicy
from textgym.policies.sb3.shared_backward import TokenDistribution, share_backward


def two_layers() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Logits `[3, 4]` of two weight tensors, in float64."""
    draw = torch.Generator().manual_seed(3)
    first, second = (
        torch.randn(5, width, generator=draw, dtype=torch.float64, requires_grad=True)
        for width in (2, 4)
    )
    inputs = torch.randn(3, 2, generator=draw, dtype=torch.float64)
    return (inputs @ first.T).tanh() @ second, [first, second]


def asked_for(distribution: CategoricalDistribution, weights: list[torch.Tensor]) -> list:
    """What TRPO asks for, weight by weight, and a product with the Fisher matrix."""
    still = torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(3, 4).sin()
    frozen = copy.copy(distribution).proba_distribution(still).distribution
    divergence = kl_divergence(distribution.distribution, frozen).mean()
    log_prob = distribution.log_prob(torch.tensor([2, 0, 1]))
    objective = (torch.tensor([1.0, -2.0, 0.5]) * (log_prob - log_prob.detach() + 0.1).exp()).mean()
    slopes, steps = [], []
    for weight in weights:
        slopes.append(torch.autograd.grad(divergence, weight, create_graph=True)[0])
        steps.append(torch.autograd.grad(objective, weight, retain_graph=True)[0])
    product = sum((slope * slope.detach().cos()).sum() for slope in slopes)
    return [*slopes, *steps, *torch.autograd.grad(product, weights)]


def test_gradients_and_fisher_products_are_those_of_the_plain_distribution():
    logits, weights = two_layers()
    plain = CategoricalDistribution(4).proba_distribution(logits)
    expected = asked_for(plain, weights)
    logits, weights = two_layers()
    passes = []
    logits.register_hook(lambda gradient: passes.append(gradient))
    found = asked_for(TokenDistribution(logits, weights), weights)
    assert len(found) == len(expected) == 6
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    assert len(passes) == 3  # divergence, objective, product; weight by weight it were five


def test_a_second_question_with_another_weighting_is_answered_anew():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    rows = share_backward(weight**2, [weight])
    for coefficients in ([1.0, 0.0], [0.0, 3.0]):
        (gradient,) = torch.autograd.grad(
            (rows * torch.tensor(coefficients)).sum(), weight, retain_graph=True
        )
        assert gradient.tolist() == [2 * coefficients[0], 4 * coefficients[1]]


def test_a_gradient_asked_for_once_can_be_asked_for_with_its_graph():
    weight = torch.tensor([3.0], requires_grad=True)
    total = share_backward(weight**3, [weight]).sum()
    for _ in range(2):
        (plain,) = torch.autograd.grad(total, weight, retain_graph=True)
        (slope,) = torch.autograd.grad(total, weight, create_graph=True)
        assert not plain.requires_grad and plain.tolist() == slope.tolist() == [27]
        (curvature,) = torch.autograd.grad(slope, weight, retain_graph=True)
        assert curvature.tolist() == [18]


def test_what_flows_back_may_depend_on_the_weights_too():
    weight = torch.tensor([3.0], requires_grad=True)
    rows = share_backward(weight**2, [weight])
    for _ in range(2):
        (slope,) = torch.autograd.grad((rows**2).sum(), weight, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), weight, retain_graph=True)
        assert slope.tolist() == [4 * 27] and curvature.tolist() == [12 * 9]  # of w⁴


def test_without_a_graph_nothing_is_wrapped():
    rows = torch.ones(3)
    assert share_backward(rows, []) is rows


class PlainPolicy(TextActorCriticPolicy):
    """The policy with SB3's own distribution."""

    def get_distribution(self, obs):
        logits = super().get_distribution(obs).distribution.logits
        return CategoricalDistribution(logits.shape[-1]).proba_distribution(logits)


def trained(policy_class) -> tuple[dict[str, torch.Tensor], int]:
    """Weights after one update of an unmodified TRPO, and the passes back through the trunk."""
    lm = CausalLM.new(textgym.Tokenizer.byte(), hidden_size=16, num_hidden_layers=2, seed=4)
    env = textgym.make_vec("textgym/Length-v0", n_envs=4, seed=0)
    agent = TRPO(
        policy_class,
        env,
        policy_kwargs={"model": lm},
        n_steps=12,
        batch_size=48,
        cg_max_steps=3,
        rollout_buffer_class=textgym.agents.EpisodeRolloutBuffer,
        seed=0,
    )
    passes = []

    def watch(module, inputs, output) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradient: passes.append(gradient.shape))

    agent.policy.lm.model.norm.register_forward_hook(watch)
    agent.learn(48)
    return agent.policy.state_dict(), len(passes)


def test_unmodified_trpo_takes_the_same_step_with_fewer_passes_back():
    ours, passes = trained(TextActorCriticPolicy)
    theirs, plain_passes = trained(PlainPolicy)
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-5, rtol=1e-4)
    assert passes < plain_passes / 3, (passes, plain_passes)
