"""Unmodified PPO and A2C learn small tasks, and do not learn what is not there."""

import numpy as np
import pytest
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecEnvWrapper
from textgym_learning import BUDGET, AnotherTextsScore, share_of_a
from textgym_testing import letter_env, tiny_lm

from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy

KEYWORDS = {
    PPO: {"batch_size": 64, "n_epochs": 4, "learning_rate": 3e-3},
    A2C: {"learning_rate": 1e-2},
}
TIMESTEPS = {PPO: 4096, A2C: 8192}


def constant(prompts, completions):
    return [1.0] * len(completions)


def env_of(reward):
    return letter_env(16, prompts=["b", "cd"], reward=reward, max_new_tokens=BUDGET)


def learn(cls, env, seed=0, kl=None, timesteps=None):
    """An agent on a fresh model whose distribution is almost flat."""
    agent = cls(
        TextActorCriticPolicy,
        env,
        policy_kwargs={"model": tiny_lm(spread=1.0, seed=seed, num_hidden_layers=1)},
        rollout_buffer_class=EpisodeRolloutBuffer,
        rollout_buffer_kwargs={"kl": kl} if kl else None,
        n_steps=16,
        gamma=1.0,
        gae_lambda=0.95,
        seed=seed,
        device="cpu",
        **KEYWORDS[cls],
    )
    return agent.learn(timesteps or TIMESTEPS[cls])


def texts_of(agent, n=200):
    prompts = ["b", "cd"] * (n // 2)
    return agent.policy.lm.generate(prompts, max_new_tokens=BUDGET, seed=1)


def mean_length(agent):
    """Tokens of an episode, the stop token counted."""
    return np.mean([min(len(text) + 1, BUDGET) for text in texts_of(agent)])


@pytest.mark.parametrize("cls", [PPO, A2C])
def test_a_letter_that_pays_is_learned(cls):
    agent = learn(cls, env_of(share_of_a))
    assert np.mean(share_of_a(None, texts_of(agent))) > 0.8  # a random policy: about 0.1
    assert agent.rollout_buffer.values[:, :].max() < 1.5


@pytest.mark.parametrize("cls", [PPO, A2C])
def test_shuffled_rewards_teach_nothing(cls):
    agent = learn(cls, env_of(AnotherTextsScore()))
    assert np.mean(share_of_a(None, texts_of(agent))) < 0.5


@pytest.mark.parametrize("cls", [PPO, A2C])
def test_where_stopping_pays_the_same_no_seed_runs_away_to_the_budget(cls):
    """The budget terminates: were it to truncate, SB3 would bootstrap and no seed would stop."""
    for seed in range(3):
        agent = learn(cls, env_of(constant), seed)
        assert mean_length(agent) < BUDGET - 0.5
        assert 0.5 < agent.rollout_buffer.values.mean() < 1.2
        assert np.abs(agent.rollout_buffer.values).max() < 1.5


class BudgetTruncates(VecEnvWrapper):
    """The mistake that the environments avoid."""

    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        observations, rewards, dones, infos = self.venv.step_wait()
        for info in infos:
            if info.get("finish_reason") == "length":
                info["TimeLimit.truncated"] = True
        return observations, rewards, dones, infos


def test_were_the_budget_to_truncate_values_would_run_away():
    agent = learn(PPO, BudgetTruncates(env_of(constant)), timesteps=8192)
    assert agent.rollout_buffer.values.max() > 3.0
    assert mean_length(agent) > BUDGET - 0.5


def test_a_strong_kl_term_keeps_the_policy_where_it_was():
    start = tiny_lm(spread=1.0, seed=0, num_hidden_layers=1)
    held = learn(PPO, env_of(share_of_a), kl=KLPenalty(start, 1.0))
    # The best policy for β = 1 on this reward, π ∝ π_ref · exp(r), hardly differs from π_ref.
    assert np.mean(share_of_a(None, texts_of(held))) < 0.3
    assert np.abs(held.rollout_buffer.kl_raw.mean()) < 0.1
