"""The trunk waits for the rollouts that were asked for, however many steps an update makes."""

import copy

import pytest
import torch
from front_door import small_agent
from textgym_testing import assert_same_weights

import textgym
from textgym.agents.building.checkpoint import save_agent

SHORT = {"env_kwargs": {"max_new_tokens": 8}}
CASES = {
    "ppo": ("ppo", {"n_steps": 16, "batch_size": 16}),
    "one row, whose segments are fewer than the minibatches": (
        "ppo",
        {"n_envs": 1, "n_steps": 16, "batch_size": 2},
    ),
    "an update cut short": ("ppo", {"n_steps": 16, "batch_size": 16, "target_kl": 1e-12}),
    "a2c": ("a2c", {"n_steps": 16}),
    "dqn": ("dqn", {"train_freq": 16}),
    "dqn, a step a token": ("dqn", {"train_freq": 16, "gradient_steps": -1, "batch_size": 16}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("warmup", [None, 0, 2])
def test_the_trunk_waits_for_whole_rollouts(case, warmup):
    name, keywords = CASES[case]
    agent = small_agent(name, value_warmup_rollouts=warmup, **{**SHORT, **keywords})
    before, tokens = copy.deepcopy(agent.policy.lm), 16 * agent.n_envs
    for rollout in range(4):
        agent.learn(tokens, reset_num_timesteps=False)
        assert agent.num_timesteps == (rollout + 1) * tokens
        if rollout < (1 if warmup is None else warmup):
            assert_same_weights(agent.policy.lm, before)
        else:
            with pytest.raises(AssertionError):
                assert_same_weights(agent.policy.lm, before)
            break


def test_a_warm_up_goes_on_after_loading(tmp_path):
    agent = small_agent("a2c", n_steps=16, value_warmup_rollouts=3, **SHORT)
    agent.learn(2 * 64)
    save_agent(agent, tmp_path / "a", environment=agent.text_environment)
    again = textgym.load_agent(tmp_path / "a")
    before = copy.deepcopy(again.policy.lm)
    again.learn(64, reset_num_timesteps=False)
    assert_same_weights(again.policy.lm, before)
    again.learn(64, reset_num_timesteps=False)
    with pytest.raises(AssertionError):
        assert_same_weights(again.policy.lm, before)
    assert not torch.equal(again.policy.value_net.weight, torch.zeros(1, 16))
