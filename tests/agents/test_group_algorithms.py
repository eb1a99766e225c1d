"""GRPO, RLOO and REINFORCE: gradients against the textbook's, one token at a time."""

import numpy as np
import pytest
import torch
from textgym_agents import HOT
from textgym_groups import (
    assert_same_gradient,
    assert_whole,
    group_agent,
    group_env,
    naive_log_probs,
    naive_policy,
    play,
)
from textgym_testing import tiny_lm

from textgym.agents.algorithms.reinforce import REINFORCE
from textgym.agents.algorithms.rloo import RLOO
from textgym.agents.rollouts.episode_collector import collate_episodes
from textgym.agents.rollouts.kl import KLPenalty, kl_estimate
from textgym.policies.language_model.decoder import Decoder

WIDTH = 5 + 6  # the longest prompt and the budget


def group_means(agent):
    rewards = np.array([episode.reward for episode in agent.episodes])
    groups = rewards.reshape(-1, agent.num_generations)
    return np.repeat(groups.mean(1), agent.num_generations), rewards


# ---- GRPO ------------------------------------------------------------------


CASES = {
    "mixed lengths": {},
    "dialogue": {
        "env": {
            "reply": lambda prompt, turns: "cc" if len(turns) < 5 else None,
            "max_context": 20,
            "max_new_tokens": 9,
            "stop": ["c", "d"],
        }
    },
    "truncated": {"env": {"max_episode_steps": 4, "stop": ["c", "d"]}},
    "temperature, top-k, top-p": {"policy": HOT},
    "mean over texts": {"loss_type": "grpo"},
    "mean over tokens": {"loss_type": "dapo"},
    "its own constant": {"max_completion_length": 3},
    "sequence ratio": {"importance_sampling_level": "sequence", "loss_type": "grpo"},
    "divided by the deviation": {"scale_rewards": "group"},
}


def naive_grpo_loss(agent, naive, case):
    """Over all episodes of the rollout, by the definitions and with Python's loops."""
    means, rewards = group_means(agent)
    texts, tokens = [], 0
    for i, episode in enumerate(agent.episodes):
        advantage = rewards[i] - means[i]
        if case.get("scale_rewards") == "group":
            first = i - i % agent.num_generations
            advantage /= np.std(rewards[first : first + agent.num_generations], ddof=1) + 1e-4
        log_probs = naive_log_probs(naive, episode)
        ratio = (log_probs - torch.as_tensor(episode.log_probs)).exp()
        if case.get("importance_sampling_level") == "sequence":
            ratio = (log_probs - torch.as_tensor(episode.log_probs)).mean().exp().expand(len(ratio))
        surrogate = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        texts.append(-surrogate)
        tokens += len(ratio)
    kind = case.get("loss_type", "dr_grpo")
    if kind == "grpo":
        return sum(text.mean() for text in texts) / len(texts)
    if kind == "dapo":
        return sum(text.sum() for text in texts) / tokens
    width = agent.observation_space.shape[0]
    longest = case.get("max_completion_length", width)
    return sum(text.sum() / longest for text in texts) / len(texts)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_grpos_gradient_is_that_of_one_pass_for_each_token(case):
    keywords = {k: v for k, v in case.items() if k not in ("env", "policy")}
    env = group_env(**case.get("env", {}))
    agent = group_agent(env=env, policy=case.get("policy"), n_groups=3, **keywords)
    for _ in range(2):  # in the second, episodes that began under older weights
        play(agent)
        naive = naive_policy(agent)
        agent.train()
        loss = naive_grpo_loss(agent, naive, case)
        loss.backward()
        assert_same_gradient(agent, naive)
        assert agent.logger.name_to_value["train/loss"] == pytest.approx(loss.item(), abs=1e-5)
        assert len({len(episode.actions) for episode in agent.episodes}) > 1


def log_ratios(agent):
    """log π - log π_old of each token of the rollout, before it is learned from."""
    batch = collate_episodes(agent.episodes, agent.advantages)
    with torch.no_grad():
        _, now, _ = agent.policy.evaluate_actions(batch.observations, batch.actions)
    return now - batch.old_log_prob


def test_the_ratio_is_one_before_the_first_update_and_old_tokens_keep_their_own():
    agent = group_agent(n_groups=2)
    play(agent)
    assert log_ratios(agent).abs().max() < 1e-5
    stale = 0
    for _ in range(4):
        rows = [len(row.actions) for row in agent._collector._rows]  # of episodes that go on
        waiting = [len(e.actions) for group in agent._collector._waiting.values() for e in group]
        agent.train()
        play(agent)
        is_stale = log_ratios(agent).abs() > 1e-5
        assert is_stale.sum() <= sum(rows) + sum(waiting) and not is_stale.all()
        stale += int(is_stale.sum())
    assert stale > 4


def test_every_episode_is_whole_and_counted_in_tokens():
    agent = group_agent(n_groups=2)
    for _ in range(6):
        before = agent.num_timesteps
        episodes = play(agent)
        assert (agent.num_timesteps - before) % 4 == 0
        for episode in episodes:
            assert_whole(episode)
        for pair in zip(episodes[::2], episodes[1::2], strict=True):
            assert pair[0].group == pair[1].group and pair[0].prompt == pair[1].prompt
        agent.train()


def test_the_policy_is_evaluated_once_an_epoch_and_the_reference_once_a_rollout(monkeypatch):
    calls, asked = [], []
    packed, log_probs = Decoder.packed, KLPenalty.log_probs

    def counted(self, tokens, *arguments):
        calls.append((id(self), len(tokens)))
        return packed(self, tokens, *arguments)

    def counted_asking(self, *arguments):
        asked.append(1)
        return log_probs(self, *arguments)

    monkeypatch.setattr(Decoder, "packed", counted)
    monkeypatch.setattr(KLPenalty, "log_probs", counted_asking)
    lm = tiny_lm(spread=6.0)
    for kl_in in ("reward", "loss"):
        for coefficient in (0.0, 0.1):
            kl = KLPenalty(lm, coefficient, kl_estimator="k3")
            agent = group_agent(lm=lm, kl=kl, kl_in=kl_in, n_epochs=3, n_groups=2)
            calls.clear()
            asked.clear()
            play(agent)
            tokens = sum(len(episode.tokens) for episode in agent.episodes)
            reference = [(id(kl.model.model), tokens)] if coefficient else []
            assert calls == reference and len(asked) == len(reference)  # rollouts are cached
            agent.train()
            assert calls == [*reference, *[(id(agent.policy.lm.model), tokens)] * 3]
            assert agent.tokens_forwarded == 3 * tokens


def test_minibatches_are_steps_of_their_own():
    agent = group_agent(n_groups=4, n_epochs=2, learning_rate=0.0)
    play(agent)
    agent.batch_size = sum(len(episode.actions) for episode in agent.episodes) // 3
    steps = []
    step = agent.policy.optimizer.step
    agent.policy.optimizer.step = lambda *a, **k: steps.append(1) or step(*a, **k)
    agent.train()
    assert len(steps) == 2 * 3
    assert agent._n_updates == 2


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_a_kl_term_in_the_reward_is_taken_off_before_groups_are_compared(estimator):
    reference = tiny_lm(spread=9.0, seed=8)
    kl = KLPenalty(reference, 3.0, kl_estimator=estimator)
    agent = group_agent(kl=kl)
    play(agent)
    naive = naive_policy(agent, reference)
    totals = []
    for episode in agent.episodes:
        theirs = naive_log_probs(naive, episode).detach()
        terms = kl_estimate(torch.as_tensor(episode.log_probs), theirs, estimator)
        totals.append(episode.reward - 3.0 * float(terms.sum()))
    groups = np.array(totals).reshape(-1, 2)
    expected = (groups - groups.mean(1, keepdims=True)).reshape(-1)
    np.testing.assert_allclose(agent.advantages, expected, atol=1e-4)
    plain = group_means(agent)
    assert np.abs(agent.advantages - (plain[1] - plain[0])).max() > 0.1


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_a_kl_term_in_the_loss_is_the_gradient_of_its_estimate(estimator):
    reference = tiny_lm(spread=5.0, seed=8)
    kl = KLPenalty(reference, 0.3, kl_estimator=estimator)
    agent = group_agent(kl=kl, kl_in="loss")
    play(agent)
    means, rewards = group_means(agent)
    np.testing.assert_allclose(agent.advantages, rewards - means)
    naive, theirs = naive_policy(agent), naive_policy(agent, reference)
    agent.train()
    loss = 0.0
    for episode, advantage in zip(agent.episodes, rewards - means, strict=True):
        now = naive_log_probs(naive, episode)
        ratio = (now - torch.as_tensor(episode.log_probs)).exp()
        log_ratio = naive_log_probs(theirs, episode).detach() - now
        term = log_ratio**2 / 2 if estimator == "k2" else log_ratio.exp() - 1 - log_ratio
        loss = loss + (-advantage * ratio + 0.3 * term).sum() / WIDTH / len(agent.episodes)
    loss.backward()
    assert_same_gradient(agent, naive)


def test_a_target_steers_the_coefficient():
    kl = KLPenalty(tiny_lm(spread=5.0, seed=8), 0.1, kl_target=1e-3, kl_horizon=50)
    agent = group_agent(kl=kl, n_groups=3)
    play(agent)
    assert kl.coefficient == 0.1  # the update still learns with the β that was logged
    agent.train()
    assert kl.coefficient == pytest.approx(0.1 * (1 + 0.2 * 6 / 50))


# ---- RLOO and REINFORCE ----------------------------------------------------


def policy_gradient_loss(agent, naive, advantages):
    """-Σ advantage · (π / π_old, held fixed) · log π over texts, by the mean text."""
    total = 0.0
    for episode, advantage in zip(agent.episodes, advantages, strict=True):
        log_probs = naive_log_probs(naive, episode)
        weight = (log_probs.detach() - torch.as_tensor(episode.log_probs)).exp()
        total = total - float(advantage) * (weight * log_probs).sum() / WIDTH
    return total / len(agent.episodes)


def test_rloos_update_is_the_textbooks():
    agent = group_agent(RLOO, env=group_env(6, 3), num_generations=3, n_groups=2)
    play(agent)
    rewards = np.array([episode.reward for episode in agent.episodes]).reshape(-1, 3)
    others = (rewards.sum(1, keepdims=True) - rewards) / 2
    naive = naive_policy(agent)
    agent.train()
    policy_gradient_loss(agent, naive, (rewards - others).reshape(-1)).backward()
    assert_same_gradient(agent, naive)


@pytest.mark.parametrize("baseline", ["batch", "running", "none"])
def test_reinforces_update_is_the_textbooks(baseline):
    env = group_env(4, 1)
    agent = group_agent(REINFORCE, env=env, num_generations=1, baseline=baseline)
    running = None
    for _ in range(3):  # later rollouts hold tokens that were drawn before the last update
        play(agent)
        rewards = np.array([episode.reward for episode in agent.episodes])
        if running is None:
            running = rewards.mean()
        others = (rewards.sum() - rewards) / (len(rewards) - 1)
        advantages = rewards - {"batch": others, "running": running, "none": 0.0}[baseline]
        running = 0.9 * running + 0.1 * rewards.mean()
        naive = naive_policy(agent)
        agent.train()
        policy_gradient_loss(agent, naive, advantages).backward()
        assert_same_gradient(agent, naive)


def test_the_running_baseline_by_hand():
    keywords = {"env": group_env(2, 1), "num_generations": 1, "baseline": "running"}
    agent = group_agent(REINFORCE, baseline_decay=0.75, **keywords)
    column = np.array([[1.0], [3.0]])
    np.testing.assert_allclose(agent.compute_advantages(column), [[-1], [1]])
    assert agent.running_mean == 2.0
    np.testing.assert_allclose(agent.compute_advantages(column + 4), [[3], [5]])
    assert agent.running_mean == 3.0  # 0.75 · 2 + 0.25 · 6


@pytest.mark.parametrize("baseline", ["batch", "none"])
def test_normalised_advantages_by_hand(baseline):
    keywords = {"env": group_env(2, 1), "num_generations": 1, "baseline": baseline}
    agent = group_agent(REINFORCE, normalize_advantage=True, **keywords)
    advantages = agent.compute_advantages(np.array([[1.0], [3.0], [8.0]]))
    # Around the mean of 4, in units of √(26 / 3), whatever the baseline.
    expected = np.array([[-3.0], [-1.0], [4.0]]) / np.sqrt(26 / 3)
    np.testing.assert_allclose(advantages, expected, rtol=1e-6)
    assert (agent.compute_advantages(np.full((3, 1), 5.0)) == 0).all()
