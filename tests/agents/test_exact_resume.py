"""A run that was stopped, and goes on in new objects, ends as one that was not: to the last bit."""

import pytest
from textgym_resuming import (
    ID,
    SMALL,
    digests,
    register_task,
    rows_of,
    unregister_task,
)
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym import registry

TOKENS = 400
pytestmark = pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")


@pytest.fixture
def task():
    register_task(tokenizer=letter_tokenizer())
    yield ID
    unregister_task()


def new_agent(word, out, **changes):
    settings = {"learning_rate": 0.01, **SMALL[word], **changes}
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    return textgym.make_agent(word, ID, policy=lm, n_envs=4, seed=0, out=out, **settings)


def learn(agent, tokens=TOKENS, **keywords):
    """On to `tokens` in all."""
    keywords = {"log_interval": None if word_of(agent) in ("dqn", "qrdqn") else 1, **keywords}
    is_new = agent.num_timesteps == 0 and agent._last_obs is None
    agent.learn(tokens - agent.num_timesteps, reset_num_timesteps=is_new, **keywords)
    return agent


def word_of(agent):
    return agent.text_settings["agent"]


def stop_at(tokens):
    """A callback that ends `learn` in the middle of a rollout."""
    return lambda names, _: names["self"].num_timesteps < tokens


@pytest.mark.parametrize("word", registry.agents.names())
def test_a_stopped_run_goes_on_to_the_last_bit(word, task, tmp_path):
    whole = learn(new_agent(word, tmp_path / "whole"))
    learn(new_agent(word, tmp_path / "parts"), callback=stop_at(215))
    resumed = textgym.load_agent(tmp_path / "parts", out=tmp_path / "parts", exact=True)
    assert 0 < resumed.num_timesteps <= 215
    learn(resumed)
    assert digests(resumed) == digests(whole)
    assert resumed.num_timesteps == whole.num_timesteps
    for record in ("metrics.jsonl", "samples.jsonl"):
        assert rows_of(tmp_path / "parts" / record) == rows_of(tmp_path / "whole" / record)


@pytest.mark.parametrize("word", ["ppo", "grpo", "dqn"])
def test_taking_states_changes_nothing(word, task, tmp_path):
    often = learn(new_agent(word, tmp_path / "often", checkpoint_seconds=0))
    seldom = learn(new_agent(word, tmp_path / "seldom", checkpoint_tokens=10**6))
    assert digests(often) == digests(seldom)
    assert rows_of(tmp_path / "often/metrics.jsonl") == rows_of(tmp_path / "seldom/metrics.jsonl")


def test_checkpoints_come_by_tokens_and_the_newest_few_are_kept(task, tmp_path):
    agent = new_agent("ppo", tmp_path / "run", checkpoint_tokens=80, keep=3)
    learn(agent, 360)  # rollouts of 40: saved at 0, 80, 160, 240, 320 and 360
    places = {place.name for place in (tmp_path / "run/checkpoints").iterdir()}
    steps = {"step-000000240", "step-000000320", "step-000000360"}
    assert places == {"last", "previous", "best_reward", *steps}
    older = textgym.load_agent(tmp_path / "run/checkpoints/step-000000240", out=tmp_path / "run")
    assert older.num_timesteps == 240
    learn(older, 280)
    assert [row["step"] for row in rows_of(tmp_path / "run/metrics.jsonl")] == list(
        range(40, 281, 40)
    )
    assert not (tmp_path / "run/checkpoints/step-000000360").exists()


def test_the_checkpoint_of_the_best_reward_is_kept(task, tmp_path):
    learn(new_agent("ppo", tmp_path / "run", checkpoint_tokens=40, keep=20), 240)
    totals = {row["step"]: row["reward/total"] for row in rows_of(tmp_path / "run/metrics.jsonl")}
    best = textgym.load_agent(tmp_path / "run/checkpoints/best_reward")
    assert best.num_timesteps == max(totals, key=totals.get)
