"""DQN and QR-DQN through the front door: by their word, recorded, saved, loaded, refused."""

import re
from pathlib import Path

import pytest
import torch
from front_door import ENV, byte_lm, read_lines, small_agent
from sb3_contrib import QRDQN
from stable_baselines3 import DQN

import textgym
from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM

both = pytest.mark.parametrize(("name", "cls"), [("dqn", DQN), ("qrdqn", QRDQN)])
METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"


def small(name="dqn", **keywords):
    """An agent whose rollouts are 4 rows of 16 tokens."""
    return small_agent(
        name, env_kwargs={"max_new_tokens": 8}, **{"train_freq": 16, "gradient_steps": 2} | keywords
    )


@both
def test_a_word_makes_an_unmodified_agent_with_defaults_for_text(name, cls):
    agent = textgym.make_agent(name, ENV, policy=byte_lm(), n_envs=4, seed=0)
    assert type(agent) is cls and type(agent.replay_buffer) is EpisodeReplayBuffer
    budget = agent.env.get_attr("task")[0].max_new_tokens
    assert agent.train_freq.frequency == budget  # each row ends an episode before the first update
    assert (
        agent.learning_starts == agent.exploration_initial_eps == agent.exploration_final_eps == 0
    )
    assert agent.gamma == agent.replay_buffer.gamma == 1.0 and agent.replay_buffer.n_steps is None
    trunk, head = agent.policy.optimizer.param_groups
    assert head["lr_scale"] == 10.0 and trunk["start_update"] == 1
    agent = small(name, gamma=0.9, n_steps=3, q_temperature=0.2, tau=0.5, value_warmup_rollouts=2)
    assert agent.replay_buffer.gamma == 0.9 and agent.replay_buffer.n_steps == 3
    assert agent.policy.q_temperature == 0.2 and agent.tau == 0.5
    assert agent.policy.optimizer.param_groups[0]["start_update"] == 2


@both
def test_each_rollout_is_a_row_of_the_record_and_every_figure_is_documented(name, cls, tmp_path):
    agent = small(name, out=tmp_path)
    agent.learn(64 * 12, log_interval=None)
    rows = read_lines(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [64 * i for i in range(1, 13)]
    assert "train/loss" not in rows[0]
    for row in rows[1:]:
        assert {"reward/total", "reward/environment", "text/length", "train/loss"} <= row.keys()
        assert row["time/rollout_tokens_per_second"] > 0 and row["reward/total"] <= 1
    samples = read_lines(tmp_path / "samples.jsonl")
    assert {row["step"] for row in samples} == {0, 64 * 6, 64 * 12}
    tags = re.findall(r"^\| `([^`]+)` \|", METRICS.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(rows[-1]) - {"step"} <= set(tags)


@both
def test_a_run_is_saved_loaded_and_gone_on_with(name, cls, tmp_path):
    settings = {"agent": name, "policy": None, "n_envs": 4, "out": tmp_path / "run"}
    settings |= {"env_kwargs": {"max_new_tokens": 8}, "train_freq": 16, "q_temperature": 0.2}
    quiet = {"progress_bar": False, "report": lambda text: None}
    agent = textgym.train(ENV, **settings, **quiet, timesteps=128)
    again = textgym.load_agent(tmp_path / "run")
    assert type(again) is cls and again.policy.q_temperature == 0.2
    ours, theirs = agent.policy.state_dict(), again.policy.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    with pytest.raises(AssertionError):  # it had learned: the prior is not the policy
        torch.testing.assert_close(again.policy.prior.state_dict(), again.policy.lm.state_dict())
    rows = agent.env.reset()
    tokens = torch.as_tensor(rows)
    assert torch.equal(agent.policy.network(tokens), again.policy.network(tokens))
    exported = CausalLM.from_pretrained(tmp_path / "run")
    assert torch.equal(exported.lm_head.weight, agent.policy.lm.lm_head.weight)
    files = {path.name: path.stat().st_size for path in (tmp_path / "run").rglob("*.safetensors")}
    # Prior, target network and two moments of each weight stand beside the model; it is there once.
    assert files["trainer.safetensors"] < 4.2 * files["model.safetensors"]
    resumed = textgym.train(ENV, **settings, **quiet, timesteps=256, resume=True)
    assert resumed.num_timesteps == 256
    evaluated = textgym.evaluate(ENV, policy=tmp_path / "run", n_episodes=4)
    assert len(evaluated.episodes) == 4


@both
def test_what_does_not_fit_is_refused_in_one_line(name, cls):
    with pytest.raises(InputError, match=f"agent '{name}' has no KL term") as caught:
        small(name, kl_coef=0.1)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="q_temperature"):
        small(name, q_temperatur=0.1)
    with pytest.raises(InputError, match="replay_buffer_class is what make_agent fills in"):
        small(name, replay_buffer_class=EpisodeReplayBuffer)
