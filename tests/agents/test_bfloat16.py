"""Language models in bfloat16: every algorithm trains one, and a checkpoint keeps the precision."""

import numpy as np
import pytest
import torch
from front_door import ENV, byte_lm

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.errors import InputError
from textgym.policies.language_model.decoder import inverse_frequencies
from textgym.registry import agents
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel

WITHOUT_KL = ("dqn", "qrdqn", "best_of_n")
CASES = [(name, {}) for name in sorted(agents.names())] + [("ppo", {"value_trunk": "own"})]


@pytest.mark.parametrize(("name", "keywords"), CASES)
def test_it_trains_saves_and_comes_back(name, keywords, tmp_path):
    lm = byte_lm().to(torch.bfloat16)
    kl = {} if name in WITHOUT_KL else {"kl_coef": 0.1}
    budget = {"max_new_tokens": 4}
    agent = textgym.make_agent(
        name, ENV, policy=lm, n_envs=4, seed=0, env_kwargs=budget, **kl, **keywords
    )
    before = [weight.clone() for weight in agent.policy.lm.parameters()]
    agent.learn(120)
    weights = list(agent.policy.lm.parameters())
    assert {weight.dtype for weight in weights} == {torch.bfloat16}
    assert any(not torch.equal(a, b) for a, b in zip(weights, before, strict=True))
    save_agent(agent, tmp_path / "saved")
    again = textgym.load_agent(tmp_path / "saved")
    saved, loaded = agent.policy.state_dict(), again.policy.state_dict()
    assert all(torch.equal(saved[key], loaded[key]) for key in saved)
    assert all(saved[key].dtype == loaded[key].dtype for key in saved)
    again.learn(16, reset_num_timesteps=False)


def test_what_it_writes_is_evaluated_and_its_heads_are_float32():
    lm = byte_lm().to(torch.bfloat16)
    budget = {"max_new_tokens": 4}
    report = textgym.evaluate(ENV, policy=lm, n_episodes=4, reference=lm, env_kwargs=budget)
    assert abs(report.kl.mean) < 0.05 and np.isfinite(report.perplexity)
    assert len(textgym.generate(lm, prompt="a", max_new_tokens=4)) == 1
    agent = textgym.make_agent("ppo", ENV, policy=lm, n_envs=2)
    rows = torch.as_tensor(agent.env.reset())
    _, values, log_probs = agent.policy(rows)
    assert values.dtype == log_probs.dtype == torch.float32
    scores = BradleyTerryRewardModel(lm)(["a", "b"], ["c", "d"])
    assert np.isfinite(scores).all()


def test_positions_stay_exact():
    lm = byte_lm()
    half = byte_lm().to(torch.bfloat16)
    assert torch.equal(half.model.inv_freq, inverse_frequencies(lm.config))
    assert half.float().model.inv_freq.dtype == torch.float32 and lm.dtype == torch.float32


@pytest.mark.parametrize("name", ["ppo", "dqn", "grpo"])
def test_float16_is_refused(name):
    with pytest.raises(InputError, match=r"float16 cannot be trained.*lm\.to\(torch\.bfloat16\)"):
        textgym.make_agent(name, ENV, policy=byte_lm().half(), n_envs=4)
