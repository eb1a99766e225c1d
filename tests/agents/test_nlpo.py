"""NLPO: PPO under a mask that is renewed now and then."""

import copy

import pytest
import torch
from stable_baselines3 import PPO
from textgym_agents import SGD, settings
from textgym_groups import front_door_agent
from textgym_testing import (
    PAD,
    assert_same_weights,
    letter_env,
    rollout,
    set_up,
    tiny_lm,
)

import textgym
from textgym.agents.algorithms.nlpo import NLPO
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.rollouts.kl import KLPenalty
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.errors import InputError
from textgym.policies.language_model.packing import row_lengths
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.top_p_mask import TopPMaskPolicy


def new_agent(cls=NLPO, policy=TopPMaskPolicy, kl=None, mask_top_p=None, **changes):
    keywords = {"model": tiny_lm(spread=6.0), **SGD}
    keywords |= {} if mask_top_p is None else {"mask_top_p": mask_top_p}
    return cls(
        policy,
        letter_env(),
        policy_kwargs=keywords,
        rollout_buffer_class=EpisodeRolloutBuffer,
        rollout_buffer_kwargs={"kl": kl} if kl else None,
        **settings(PPO, **changes),
    )


def test_with_the_whole_probability_it_is_ppo_bit_for_bit():
    ppo = new_agent(PPO, TextActorCriticPolicy).learn(24 * 4)
    nlpo = new_agent(mask_top_p=1.0, mask_update_interval=2).learn(24 * 4)
    for name, tensor in ppo.policy.state_dict().items():
        assert torch.equal(tensor, nlpo.policy.state_dict()[name]), name
    with pytest.raises(AssertionError):
        assert_same_weights(ppo.policy.lm, tiny_lm(spread=6.0), 1e-3)


def test_every_token_of_a_rollout_is_inside_the_mask_and_counts_with_a_ratio_of_one():
    keywords = {"n_epochs": 1, "batch_size": 24, "learning_rate": 1.0}
    agent = set_up(new_agent(mask_top_p=0.5, mask_update_interval=3, **keywords))
    for _ in range(3):  # the mask gets older than the policy
        sampled = []
        forward = agent.policy.forward

        def noted(obs, deterministic=False, forward=forward, sampled=sampled):
            result = forward(obs, deterministic)
            sampled.append((obs, result[0]))
            return result

        agent.policy.forward = noted
        mask = copy.deepcopy(agent.policy.mask_lm)
        rollout(agent)
        agent.policy.forward = forward
        assert len(sampled) == 8
        for rows, actions in sampled:
            for tokens, action in zip(rows, actions.tolist(), strict=True):
                logits = mask(tokens[: int(row_lengths(tokens[None], PAD))][None])[0, -1].detach()
                probabilities = logits.index_fill(-1, torch.tensor([0, 1]), -torch.inf).softmax(-1)
                before = probabilities[probabilities > probabilities[action]].sum()
                assert before < 0.5 + 1e-4
        agent.train()
        assert agent.logger.name_to_value["train/approx_kl"] == pytest.approx(0.0, abs=1e-6)
        assert agent.logger.name_to_value["train/clip_fraction"] == 0.0
    assert_same_weights(agent.policy.mask_lm, agent.policy.lm)
    with pytest.raises(AssertionError):
        assert_same_weights(mask, agent.policy.lm, 1e-3)


def test_the_mask_is_renewed_every_so_many_rollouts():
    agent = set_up(new_agent(mask_top_p=0.5, mask_update_interval=3))
    start = copy.deepcopy(agent.policy.lm)
    ages = []
    for _ in range(6):
        rollout(agent)
        agent.train()
        ages.append(agent.logger.name_to_value["train/mask_age"])
        if ages[-1]:
            with pytest.raises(AssertionError):
                assert_same_weights(agent.policy.mask_lm, agent.policy.lm, 1e-4)
            assert_same_weights(agent.policy.mask_lm, start)
        else:
            assert_same_weights(agent.policy.mask_lm, agent.policy.lm)
            start = copy.deepcopy(agent.policy.lm)
    assert ages == [1, 2, 0, 1, 2, 0]


def test_a_kl_term_compares_the_masked_policy_with_its_reference():
    reference = tiny_lm(spread=6.0)
    agent = set_up(new_agent(mask_top_p=0.5, kl=KLPenalty(reference, 0.1)))
    buffer = rollout(agent)
    # The same weights, but the policy's probability is shared by fewer tokens: all that differs
    # is the mask, which holds half of the probability at least.
    assert 0.05 < buffer.kl_raw.mean() and buffer.kl_raw.max() <= -torch.tensor(0.5).log() + 1e-4
    assert buffer.kl_raw.min() > -1e-5


def test_saving_and_loading_as_sb3_does_keeps_the_mask(tmp_path):
    agent = new_agent(mask_top_p=0.5, mask_update_interval=4).learn(24 * 5)
    agent.save(tmp_path / "agent.zip")
    again = NLPO.load(tmp_path / "agent.zip", env=letter_env(), device="cpu")
    assert_same_weights(again.policy, agent.policy)
    assert (again.mask_update_interval, again.rollouts_under_mask) == (4, 1)
    assert again.policy.mask_top_p == 0.5
    again.learn(24 * 3)
    assert_same_weights(again.policy.mask_lm, again.policy.lm)


def test_load_agent_brings_the_mask_back(tmp_path):
    agent = front_door_agent(
        "nlpo",
        n_steps=16,
        batch_size=32,
        kl_coef=0.1,
        mask_top_p=0.7,
        mask_update_interval=3,
        learning_rate=1e-2,
    )
    assert type(agent) is NLPO and type(agent.policy) is TopPMaskPolicy
    agent.learn(64 * 4)
    save_agent(agent, tmp_path / "agent", environment=agent.text_environment)
    again = textgym.load_agent(tmp_path / "agent")
    assert_same_weights(again.policy, agent.policy)
    with pytest.raises(AssertionError):
        assert_same_weights(again.policy.mask_lm, again.policy.lm, 1e-4)
    assert (again.rollouts_under_mask, again.mask_update_interval) == (1, 3)
    assert again.policy.mask_top_p == 0.7
    again.learn(64 * 2, reset_num_timesteps=False)
    assert_same_weights(again.policy.mask_lm, again.policy.lm)


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"mask_update_interval": 0}, "a whole number from 1 to .* got 0"),
        ({"mask_update_interval": 2.5}, "a whole number from 1 to .* got 2.5"),
        ({"policy": TextActorCriticPolicy}, "pass TopPMaskPolicy, got TextActorCriticPolicy"),
    ],
)
def test_what_cannot_work_is_refused(keywords, message):
    with pytest.raises(InputError, match=message):
        new_agent(**keywords)
    with pytest.raises(InputError, match="did you mean 'mask_top_p'"):
        front_door_agent("nlpo", mask_top_pp=0.9)
