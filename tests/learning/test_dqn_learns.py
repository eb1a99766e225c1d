"""Unmodified DQN and QR-DQN learn small tasks, and do not learn what is not there."""

import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.utils import LinearSchedule
from textgym_learning import BUDGET, AnotherTextsScore, share_of_a
from textgym_off_policy import NO_EPSILON, POLICIES
from textgym_testing import letter_env, tiny_lm

from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
from textgym.optimization import ScaledAdam

both = pytest.mark.parametrize("cls", [DQN, QRDQN])


def learn(cls, reward=share_of_a, timesteps=3072, seed=0, **buffer):
    """An agent on a fresh model whose distribution is almost flat."""
    agent = cls(
        POLICIES[cls],
        letter_env(16, prompts=["b", "cd"], reward=reward, max_new_tokens=BUDGET),
        policy_kwargs={
            "model": tiny_lm(spread=1.0, seed=seed, num_hidden_layers=1),
            "q_temperature": 0.01,  # eight letters a are worth 1 / 0.01 nats
            "value_lr_scale": 3.0,
            "trunk_start_step": 16,
            "optimizer_class": ScaledAdam,
        },
        replay_buffer_class=EpisodeReplayBuffer,
        replay_buffer_kwargs=buffer,
        buffer_size=2048,
        learning_starts=0,
        batch_size=128,
        train_freq=16,
        gradient_steps=16,
        target_update_interval=512,
        learning_rate=3e-3,
        seed=seed,
        device="cpu",
        **NO_EPSILON,
    )
    return agent.learn(timesteps)


def mean_score(agent, temperature=1.0):
    prompts = ["b", "cd"] * 100
    lm = agent.policy.lm
    texts = lm.generate(prompts, max_new_tokens=BUDGET, temperature=temperature, seed=1)
    return np.mean(share_of_a(None, texts))


@both
def test_a_letter_that_pays_is_learned(cls):
    agent = learn(cls)
    assert mean_score(agent) > 0.99  # drawn from the exported model; at first about 0.1
    assert mean_score(agent, temperature=0) == 1.0
    rows = agent.env.reset()
    with torch.no_grad():
        values = agent.policy.network(torch.as_tensor(rows)).reshape(len(rows), -1, 7)
    np.testing.assert_allclose(values.mean(1)[:, 3], 1.0, atol=0.1)  # of an a at the start


@both
def test_shuffled_rewards_teach_nothing(cls):
    assert mean_score(learn(cls, AnotherTextsScore())) < 0.6


def test_with_one_step_targets_the_reward_crawls_back():
    """Why returns go to the episode's end unless one says otherwise."""
    assert mean_score(learn(DQN, timesteps=1536)) > 0.95
    assert mean_score(learn(DQN, timesteps=1536, n_steps=1)) < 0.6


WORTH = {"": 0.2, "a": 1.0, "b": 0.5, "c": 0.0, "d": -0.5}


def worth(prompts, completions):
    return [WORTH[text] for text in completions]


@both
def test_with_one_token_it_ends_at_the_prior_times_exp_of_the_reward(cls):
    """The optimum of E[r] - α KL(π, π_0), and V is its value α log Σ π_0 exp(r/α)."""
    alpha, lm = 0.3, tiny_lm(spread=6.0)
    agent = cls(
        POLICIES[cls],
        letter_env(64, prompts=["b", "cd"], reward=worth, max_new_tokens=1),
        policy_kwargs={
            "model": lm,
            "q_temperature": alpha,
            "value_lr_scale": 10.0,
            "optimizer_class": ScaledAdam,
        },
        replay_buffer_class=EpisodeReplayBuffer,
        buffer_size=4096,
        learning_starts=0,
        batch_size=256,
        train_freq=2,
        gradient_steps=2,
        target_update_interval=512,
        learning_rate=LinearSchedule(2e-3, 0.0, 1.0),
        seed=0,
        device="cpu",
        **NO_EPSILON,
    ).learn(8192)
    legal = [2, 3, 4, 5, 6]  # stop, a, b, c, d
    for prompt in ("b", "cd"):
        tokens = torch.tensor([lm.tokenizer.encode(prompt)])
        with torch.no_grad():
            prior, policy = (m(tokens)[0, -1][legal].softmax(-1) for m in (lm, agent.policy.lm))
            hidden = agent.policy.lm.hidden_states(tokens)[0, -1]
            value = agent.policy.network.value_net(hidden).mean().item()
        weights = prior * (torch.tensor(list(WORTH.values())) / alpha).exp()
        optimum = weights / weights.sum()
        assert (prior - optimum).abs().sum() / 2 > 0.3  # where it began
        assert (policy - optimum).abs().sum() / 2 < 0.03
        assert value == pytest.approx(alpha * weights.sum().log().item(), abs=0.05)
