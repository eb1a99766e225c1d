"""Each registered algorithm, a thousand episodes of training, without an illegal token."""

import re

import pytest
from textgym_testing import BOS, PAD, count_a, letter_tokenizer, tiny_lm

import textgym
from textgym import constraints, registry

PATTERN = "(a|bc){1,2}d?|c"
ID = "test/Obeyed-v0"
EPISODES = {"dqn": 300, "qrdqn": 300}  # these take more time for each; the others write 1,000
SETTINGS = {"trpo": {"n_steps": 64, "n_critic_updates": 1, "cg_max_steps": 3}}  # few, costly steps


@pytest.fixture
def task_id():
    textgym.register(
        ID,
        prompts=["a", "bcd", "cdabb"],
        reward=count_a,
        max_new_tokens=5,
        tokenizer=letter_tokenizer(),
        constraint=constraints.regex(PATTERN),
    )
    yield ID
    registry.tasks.unregister(ID)


@pytest.mark.filterwarnings("ignore:all .* earned the same reward:UserWarning")
@pytest.mark.parametrize("name", registry.agents.names())
def test_no_illegal_token_is_ever_written(name, task_id):
    agent = textgym.make_agent(
        name,
        task_id,
        policy=tiny_lm(spread=6.0, num_hidden_layers=1),
        n_envs=16,
        seed=0,
        learning_rate=0.01,
        **SETTINGS.get(name, {}),
    )
    endings, count_wanted = [], EPISODES.get(name, 1000)

    def collect(names, _):
        endings.extend(info for info in names.get("infos", ()) if "completion" in info)
        return len(endings) < count_wanted

    agent.learn(10 * count_wanted, callback=collect)
    assert len(endings) >= count_wanted
    automaton = agent.policy.masks.automaton
    for info in endings:
        begin, count = info["prompt_length"], info["completion_length"]
        written = info["terminal_observation"][begin : begin + count].tolist()
        assert not {PAD, BOS} & set(written)  # they would decode to nothing
        for state, token_id in zip(automaton.states(written), written, strict=False):
            assert automaton.is_legal(state)[token_id]
        if info["finish_reason"] == "stop":
            assert re.fullmatch(PATTERN, info["completion"])
    assert sum(info["finish_reason"] == "stop" for info in endings) > count_wanted / 4
