"""Training with a chat judge whose server fails: the weights stay, nothing is paid twice (R20)."""

import hashlib
import re

import pytest
from chat_server import chat_server
from front_door import ENV, byte_lm, read_lines, small_agent

import textgym
from textgym.errors import InputError, RewardFailure

KEY = "sk-very-secret-18"
SMALL = {"n_envs": 4, "n_steps": 32, "batch_size": 64, "n_epochs": 1, "seed": 0}


def weights(agent):
    state = agent.policy.state_dict()
    return hashlib.sha256(b"".join(t.numpy().tobytes() for t in state.values())).hexdigest()


@pytest.fixture
def server(monkeypatch):
    with chat_server(byte_lm(max_position_embeddings=512), "123456789") as running:
        monkeypatch.setenv("OPENAI_BASE_URL", running.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        yield running


@pytest.mark.parametrize("fault", ["down", 500, "stall", ("say", "fine"), "half"], ids=str)
def test_a_failure_in_a_rollout_changes_no_weight_and_training_goes_on(server, tmp_path, fault):
    cache = tmp_path / "judge.jsonl"
    name = f"chat_judge,model=ours,cache={cache},retries=1,wait=0.001,timeout=0.5"
    agent = small_agent(reward=name)
    agent.learn(128)
    before, paid = weights(agent), len(read_lines(cache))
    if fault == "down":
        server.stop()
    server.faults = [None, None, *[fault] * 500]
    said = "answered 'fine'" if fault == ("say", "fine") else server.url
    with pytest.raises(RewardFailure, match=said) as error:
        agent.learn(128, reset_num_timesteps=False)
    assert re.search(r" at step \d+$", str(error.value)) and str(error.value).count("step") == 1
    assert weights(agent) == before
    server.faults = []
    if fault == "down":
        server.start_again()
    agent.learn(128, reset_num_timesteps=False)
    rows = read_lines(cache)
    assert weights(agent) != before and len(rows) > paid
    assert len(rows) == len({row["key"] for row in rows})


def test_a_run_whose_judge_goes_away_is_saved_and_goes_on(server, tmp_path):
    """By name; no file of the run holds the key, and a checkpoint alone asks nobody."""
    (tmp_path / "rubric.txt").write_text("{completion}>", encoding="utf-8")
    judge = f"chat_judge,model=ours,rubric={tmp_path}/rubric.txt,retries=0,cache={tmp_path}/c.jsonl"
    out = tmp_path / "run"
    settings = {"policy": byte_lm(), "reward": judge, "timesteps": 384, **SMALL}
    server.faults = [None] * 9 + [503] * 1000
    with pytest.raises(RewardFailure, match=f"at {server.url}: HTTP 503") as error:
        textgym.train(ENV, agent="ppo", out=out, **settings)
    server.faults = []
    textgym.train(ENV, out=out, resume=True, policy=settings["policy"])
    rows = read_lines(out / "metrics.jsonl")
    assert rows[-1]["step"] >= 384 and rows[-1]["reward_components/judge_calls"] >= 0
    assert rows[0]["reward_components/judge_tokens_out"] > 0
    keys = [row["key"] for row in read_lines(tmp_path / "c.jsonl")]
    assert len(keys) == len({*keys})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5 and not [p for p in files if KEY.encode() in p.read_bytes()]
    assert KEY not in str(error.value)
    with pytest.raises(InputError, match=r"a checkpoint asks no server .* pass reward=\.\.\."):
        textgym.load_agent(out)
