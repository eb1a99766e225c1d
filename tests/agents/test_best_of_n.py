"""Best-of-n imitates the best of each group and nothing else; equal groups teach nobody."""

import numpy as np
import pytest
import torch
from textgym_groups import (
    assert_same_gradient,
    group_agent,
    group_env,
    naive_log_probs,
    naive_policy,
    play,
)
from textgym_testing import assert_same_weights, tiny_lm

from textgym.agents.algorithms.best_of_n import BestOfN
from textgym.agents.algorithms.grpo import GRPO
from textgym.agents.algorithms.reinforce import REINFORCE
from textgym.agents.algorithms.rloo import RLOO


def test_only_the_best_of_each_group_are_imitated():
    env = group_env(
        8, 4, reward=lambda prompts, completions: [float("aaaa" in c) for c in completions]
    )
    agent = group_agent(BestOfN, env=env, num_generations=4, n_groups=6)
    scores = agent.compute_advantages(np.array([[1.0, 5.0, 5.0, 2.0], [3.0, 3.0, 3.0, 3.0]]))
    assert scores.tolist() == [[0, 1, 0, 0], [0, 0, 0, 0]]
    collected = []
    take = agent._collector.take
    agent._collector.take = lambda n: collected.extend(take(n)) or list(collected)
    play(agent)
    best = []
    for start in range(0, len(collected), 4):
        group = collected[start : start + 4]
        if len({episode.reward for episode in group}) > 1:
            best.append(max(group, key=lambda episode: episode.reward))
    assert 0 < len(best) < 6  # some group has no best
    assert [id(episode) for episode in agent.episodes] == [id(episode) for episode in best]
    naive = naive_policy(agent)
    agent.train()
    assert agent.tokens_forwarded == sum(len(episode.tokens) for episode in best)
    log_probs = torch.cat([naive_log_probs(naive, episode) for episode in best])
    (-log_probs.mean()).backward()
    assert_same_gradient(agent, naive)


@pytest.mark.parametrize("cls", [GRPO, RLOO, REINFORCE, BestOfN])
def test_where_all_rewards_are_equal_nothing_changes(cls):
    env = group_env(reward=lambda prompts, completions: [2.0] * len(prompts))
    agent = group_agent(cls, env=env)
    before = tiny_lm(spread=6.0)
    play(agent)
    agent.train()
    assert_same_weights(agent.policy.lm, before)
    assert agent.logger.name_to_value["rollout/equal_groups"] == 1.0
    agent.learn(64)
