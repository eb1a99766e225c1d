"""The policy under unmodified Stable-Baselines3, against one forward pass for each token."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from textgym_agents import every_case, naive_agent, text_agent
from textgym_testing import (
    BOS,
    PAD,
    MirrorBuffer,
    assert_same_weights,
    rollout,
    tiny_lm,
)

from textgym.optimization import ScaledAdam
from textgym.policies.language_model.packing import PackedSegments


def logged(agent):
    names = ("loss", "policy_gradient_loss", "policy_loss", "value_loss", "entropy_loss")
    values = agent.logger.name_to_value
    return {name: values[f"train/{name}"] for name in names if f"train/{name}" in values}


def assert_same_gradients(first, second):
    ours, theirs = dict(first.named_parameters()), second.trained()
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        torch.testing.assert_close(
            parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: n + m
        )
    assert max(float(p.grad.abs().max()) for p in ours.values()) > 1e-3


@every_case
@pytest.mark.parametrize("cls", [PPO, A2C])
def test_loss_and_gradients_of_an_update_equal_the_naive_ones(cls, case):
    """One minibatch, weights held still, SB3's own train() and its own buffer on the other side."""
    still = {"learning_rate": 0.0, "max_grad_norm": 1e9, "n_steps": 8}
    if cls is PPO:
        still |= {"batch_size": 24, "n_epochs": 1}
    agent = text_agent(cls, **case, **still)
    naive = naive_agent(agent, **still)
    rollout(agent)
    buffer = rollout(agent)  # the second one begins in mid-episode
    naive.rollout_buffer = buffer.stock
    if not case.get("fixed"):
        assert len({len(segment.tokens) for segment in buffer.segments}) > 2
        assert not all(buffer.episode_starts[0])
    agent.train()
    naive.train()
    ours, theirs = logged(agent), logged(naive)
    assert len(ours) == (4 if cls is PPO else 3)
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert_same_gradients(agent.policy, naive.policy)


@every_case
def test_minibatches_and_epochs_end_with_the_naive_weights(case):
    agent = text_agent(PPO, **case)
    naive = naive_agent(agent)
    buffer = rollout(agent)
    before = copy.deepcopy(agent.policy)
    agent.train()
    assert len(buffer.parts) == 2 * 3
    naive.rollout_buffer = MirrorBuffer(buffer)
    naive.train()
    assert naive.rollout_buffer.parts == []
    assert logged(agent) == pytest.approx(logged(naive), abs=2e-5)
    assert_same_weights(agent.policy, naive.policy, 2e-5)
    with pytest.raises(AssertionError):
        assert_same_weights(agent.policy, before, 1e-3)


@every_case
@pytest.mark.parametrize("use_cache", [True, False])
def test_the_ratio_is_one_before_the_first_update(case, use_cache):
    case = {**case, "policy": {**case.get("policy", {}), "use_cache": use_cache}}
    agent = text_agent(**case)
    for _ in range(3):
        buffer = rollout(agent)
        agent.policy.set_training_mode(True)
        for batch in buffer.get(8):
            values, log_prob, entropy = agent.policy.evaluate_actions(
                batch.observations, batch.actions
            )
            ratio = torch.exp(log_prob - batch.old_log_prob)
            torch.testing.assert_close(ratio, torch.ones_like(ratio), rtol=0, atol=1e-5)
            torch.testing.assert_close(values[:, 0], batch.old_values, rtol=0, atol=1e-5)
            assert entropy.shape == log_prob.shape == (len(batch.observations),)


@every_case
def test_the_bootstrap_is_the_value_of_the_terminal_row(case):
    """Recomputed without a cache from what SB3 stored."""
    agent = text_agent(**case)
    seen = []
    step = agent.env.step_wait

    def watch():
        result = step()
        seen.append((result[1].copy(), [dict(info) for info in result[3]]))
        return result

    agent.env.step_wait = watch
    buffer = rollout(agent)
    truncated = 0
    for i, (rewards, infos) in enumerate(seen):
        for env, info in enumerate(infos):
            expected = rewards[env]
            if info.get("TimeLimit.truncated"):
                row = torch.as_tensor(info["terminal_observation"])[None]
                with torch.enable_grad():
                    expected += 0.9 * float(agent.policy.predict_values(row).detach())
                truncated += 1
            assert buffer.rewards[i, env] == pytest.approx(expected, abs=1e-5)
    assert (truncated > 3) == ("max_episode_steps" in case.get("env", {}))


@every_case
def test_the_cache_changes_no_action(case):
    def actions(use_cache):
        policy = {**case.get("policy", {}), "use_cache": use_cache}
        agent = text_agent(**{**case, "policy": policy})
        buffers = [rollout(agent) and agent.rollout_buffer.actions.copy() for _ in range(4)]
        return np.stack(buffers), agent.rollout_buffer.values.copy()

    (cached, values), (plain, plain_values) = actions(True), actions(False)
    assert np.array_equal(cached, plain)
    np.testing.assert_allclose(values, plain_values, atol=1e-5)


def test_training_with_and_without_the_cache_ends_alike():
    agents = [text_agent(policy={"use_cache": use_cache}) for use_cache in (True, False)]
    for agent in agents:
        agent.learn(24 * 4)
    assert_same_weights(agents[0].policy, agents[1].policy, 1e-4)


@pytest.mark.parametrize("own", [False, True])
def test_an_update_makes_one_pass_for_each_minibatch_and_each_segment_once(own):
    agent = text_agent(policy={"value_trunk": "own"} if own else {})
    buffer = rollout(agent)
    passes = []
    agent.policy.lm.model.register_forward_hook(
        lambda module, arguments, out: passes.append(len(arguments[0]))
    )
    agent.train()
    tokens = sum(len(segment.tokens) for segment in buffer.segments)
    assert len(passes) == 2 * 3  # epochs × minibatches
    assert sum(passes[:3]) == sum(passes[3:]) == tokens
    assert buffer.tokens_forwarded == 2 * tokens
    padded = int(buffer.lengths.sum())  # what one pass for each token would read
    assert tokens < padded / 2


def test_a_rollout_reads_each_new_token_once():
    agent = text_agent(fixed=True, env={"prompts": ["ab"]})
    counts = []
    agent.policy.lm.model.register_forward_hook(
        lambda module, arguments, out: counts.append(len(arguments[0]))
    )
    rollout(agent)
    # The prompt's first token with its second, then one token a row; a row that starts again with
    # the same prompt finds its first token in the cache. The last pass is for SB3's last values.
    assert counts == [6, 3, 3, 3, 3, 3, 3, 3, 3]
    agent.train()
    counts.clear()
    rollout(agent)
    assert counts[0] == 6  # the weights have changed, so nothing is remembered


def test_methods_mean_what_they_mean_in_stable_baselines3():
    agent = text_agent()
    policy = agent.policy
    rows = torch.as_tensor(agent._last_obs)
    naive = naive_agent(agent).policy
    for length in range(3):
        logits = torch.stack([naive.one(row)[0] for row in rows])
        values = naive.predict_values(rows)
        distribution = policy.get_distribution(rows).distribution
        torch.testing.assert_close(distribution.probs, logits.softmax(-1), rtol=0, atol=1e-5)
        torch.testing.assert_close(policy.predict_values(rows), values, rtol=0, atol=1e-5)
        with torch.no_grad():
            torch.testing.assert_close(policy.predict_values(rows), values, rtol=0, atol=1e-5)
            actions, got, log_prob = policy(rows, deterministic=True)
        assert torch.equal(actions, logits.argmax(-1))
        assert got.shape == (3, 1) and log_prob.shape == (3,)
        torch.testing.assert_close(got, values, rtol=0, atol=1e-5)
        expected = logits.log_softmax(-1).max(-1).values
        torch.testing.assert_close(log_prob, expected, rtol=0, atol=1e-5)
        assert np.array_equal(policy.predict(rows.numpy(), deterministic=True)[0], actions)
        assert policy.predict(rows[0].numpy(), deterministic=True)[0] == actions[0]
        for got, want in zip(
            policy.evaluate_actions(rows, actions.float()[:, None]),
            naive.evaluate_actions(rows, actions),
            strict=True,
        ):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
        lengths = (rows != PAD).sum(1)
        rows[torch.arange(3), lengths] = 3 + length


def test_forward_with_gradients_can_be_learned_from():
    agent = text_agent()
    _, values, log_prob = agent.policy(torch.as_tensor(agent._last_obs))
    (values.sum() + log_prob.sum()).backward()
    assert agent.policy.lm.model.embed_tokens.weight.grad.abs().max() > 0


def test_the_gradient_of_a_kl_between_masked_distributions_is_finite():
    agent = text_agent(policy={"top_k": 3})
    rows = torch.as_tensor(agent._last_obs)
    new, old = (agent.policy.get_distribution(rows).distribution for _ in range(2))
    assert bool((new.probs[:, [PAD, BOS]] == 0).all())
    frozen = torch.distributions.Categorical(logits=old.logits.detach() * 0.9)
    divergence = torch.distributions.kl_divergence(new, frozen).mean()
    gradients = torch.autograd.grad(
        divergence, list(agent.policy.lm.parameters()), create_graph=True
    )
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)


def test_padding_and_start_are_never_played_even_if_they_are_likeliest():
    lm = tiny_lm(tie_word_embeddings=False)
    with torch.no_grad():
        lm.lm_head.weight[[PAD, BOS]] *= 50
    agent = text_agent(lm=lm)
    for _ in range(5):
        assert not np.isin(rollout(agent).actions, [PAD, BOS]).any()
    rows = np.repeat(agent._last_obs, 50, axis=0)
    for deterministic in (True, False):
        assert not np.isin(agent.predict(rows, deterministic=deterministic)[0], [PAD, BOS]).any()


def test_a_subset_of_acted_positions_reads_the_same_tokens():
    agent = text_agent()
    packed = next(rollout(agent).get(100)).observations
    half = packed[::2]
    assert isinstance(half, PackedSegments) and len(half) == -(-len(packed) // 2)
    whole = agent.policy.get_distribution(packed).distribution.logits
    part = agent.policy.get_distribution(half).distribution.logits
    torch.testing.assert_close(part, whole[::2])
    moved = replace(packed, tokens=packed.tokens.clone()).to("cpu")
    assert torch.equal(moved.tokens, packed.tokens)


def test_weights_changed_by_a_fused_optimizer_are_noticed():
    """Such an optimizer may leave no trace on the weights: the switch of the mode must do it."""
    agent = text_agent(policy={"optimizer_class": ScaledAdam})
    rows = torch.as_tensor(agent._last_obs)

    def cached_and_plain():
        with torch.no_grad():
            ours = agent.policy(rows)[1], agent.policy.predict_values(rows)
        return *ours, agent.policy.predict_values(rows).detach()

    def step():
        agent.policy.optimizer.zero_grad()
        agent.policy.predict_values(rows).sum().backward()
        agent.policy.optimizer.step()

    before = cached_and_plain()[-1]
    for asks_in_between in (False, True):
        agent.policy.set_training_mode(True)
        if asks_in_between:
            cached_and_plain()
        step()
        agent.policy.set_training_mode(False)
        first, second, plain = cached_and_plain()
        assert float((plain - before).abs().max()) > 1e-3
        torch.testing.assert_close(first, plain, rtol=0, atol=1e-5)
        torch.testing.assert_close(second, plain, rtol=0, atol=1e-5)
        before = plain
