"""Dense rewards reach the tokens that earned them, and β = 0 never asks the reference."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from textgym_testing import PAD, letter_env, rollout, set_up, tiny_lm

from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.agents.rollouts.split_rewards import SplitRewards
from textgym.envs.token_row import TokenRow
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.exchange import Exchange
from textgym.rewards import RewardOutput


def add(buffer, rows, starts, rewards):
    width = buffer.observation_space.shape[0]
    obs = np.array([[*row, *[PAD] * (width - len(row))] for row in rows])
    zeros = torch.zeros(len(rows))
    buffer.add(obs, np.zeros((len(rows), 1), int), rewards, np.array(starts), zeros[:, None], zeros)


def test_shares_go_to_their_steps_and_consumed_ones_to_the_first_stored():
    space = TokenRow(9, 6, PAD)
    Exchange.of(space).reads_segments = True
    buffer = EpisodeRolloutBuffer(3, space, spaces.Discrete(9), "cpu", n_envs=2)
    buffer.reset()
    # Row 0 began two tokens before this rollout; row 1 begins with it.
    add(buffer, [[3, 4, 5], [6]], [False, True], np.zeros(2, np.float32))
    last = np.array([6.5, 0.0], np.float32)
    split = {0: np.array([1.0, 0.5, 3.0, 2.0])}
    add(buffer, [[3, 4, 5, 6], [6, 7]], [False, False], SplitRewards.of(last, split))
    last = np.array([0.0, 3.0], np.float32)
    split = {1: np.array([1.0, 0.0, 2.0])}
    add(buffer, [[8], [6, 7, 8]], [True, False], SplitRewards.of(last, split))
    assert buffer.rewards.tolist() == [[4.5, 1.0], [2.0, 0.0], [0.0, 2.0]]


def pay_each_a(prompts, completions):
    spans = [[(i, i + 1, 1.0) for i, c in enumerate(text) if c == "a"] for text in completions]
    return RewardOutput([float(text.count("a")) for text in completions], spans=spans)


def test_a_real_rollout_pays_each_letter_where_it_was_written():
    env = letter_env(4, reward=pay_each_a)
    agent = PPO(
        TextActorCriticPolicy,
        env,
        n_steps=16,
        batch_size=64,
        policy_kwargs={"model": tiny_lm(env.get_attr("tokenizer")[0])},
        rollout_buffer_class=EpisodeRolloutBuffer,
        seed=0,
        device="cpu",
    )
    set_up(agent)
    buffer = rollout(agent)
    letter = env.get_attr("tokenizer")[0].encode("a")[0]
    earned = 0
    for segment in buffer.segments:
        if segment.end == buffer.buffer_size:
            continue  # still open, not paid yet
        steps = slice(segment.start, segment.end)
        rewards = buffer.rewards[steps, segment.env]
        is_letter = buffer.actions[steps, segment.env, 0] == letter
        began_here = bool(buffer.episode_starts[segment.start, segment.env])
        if began_here:
            assert rewards.tolist() == is_letter.astype(float).tolist()
            earned += rewards.sum()
    assert earned > 0


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_without_a_coefficient_the_reference_is_never_asked(kl_coef, monkeypatch):
    asked = []
    original = KLPenalty.per_token

    def counted(self, *arguments):
        asked.append(1)
        return original(self, *arguments)

    monkeypatch.setattr(KLPenalty, "per_token", counted)
    env = letter_env(2)
    lm = tiny_lm(env.get_attr("tokenizer")[0])
    agent = PPO(
        TextActorCriticPolicy,
        env,
        n_steps=8,
        batch_size=16,
        policy_kwargs={"model": lm},
        rollout_buffer_class=EpisodeRolloutBuffer,
        rollout_buffer_kwargs={"kl": KLPenalty(lm, kl_coef)},
        seed=0,
        device="cpu",
    )
    agent.learn(16)
    assert bool(asked) == (kl_coef > 0)
