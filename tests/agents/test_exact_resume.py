"""A run that was stopped, and goes on in new objects, ends as one that was not: to the last bit."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnvWrapper, VecNormalize
from textgym_resuming import (
    ID,
    SMALL,
    digests,
    register_task,
    rows_of,
    score,
    unregister_task,
)
from textgym_testing import letter_tokenizer, tiny_lm

import textgym
from textgym import registry
from textgym.agents.building.checkpoint import read_agent
from textgym.errors import InputError
from textgym.manifest import write_manifest
from textgym.policies.language_model.checkpoint import write_trainer_state
from textgym.reward_models import Normalize, Squash, WeightedSum

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


@pytest.mark.parametrize("word", ["ppo", "rloo", "qrdqn"])
def test_two_halves_make_a_whole(word, task, tmp_path):
    whole = learn(new_agent(word, tmp_path / "whole"))
    learn(new_agent(word, tmp_path / "halves"), 200)
    second = learn(textgym.load_agent(tmp_path / "halves", out=tmp_path / "halves", exact=True))
    assert digests(second) == digests(whole)
    rows = [rows_of(tmp_path / run / "metrics.jsonl") for run in ("halves", "whole")]
    assert rows[0] == rows[1]


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
    steps = {"step-240", "step-320", "step-360"}
    assert places == {"last", "previous", "best_reward", *steps}
    older = textgym.load_agent(tmp_path / "run/checkpoints/step-240", out=tmp_path / "run")
    assert older.num_timesteps == 240
    learn(older, 280)
    assert [row["step"] for row in rows_of(tmp_path / "run/metrics.jsonl")] == list(
        range(40, 281, 40)
    )
    assert not (tmp_path / "run/checkpoints/step-360").exists()


def test_the_checkpoint_of_the_best_reward_is_kept(task, tmp_path):
    learn(new_agent("ppo", tmp_path / "run", checkpoint_tokens=40, keep=20), 240)
    totals = {row["step"]: row["reward/total"] for row in rows_of(tmp_path / "run/metrics.jsonl")}
    best = textgym.load_agent(tmp_path / "run/checkpoints/best_reward")
    assert best.num_timesteps == max(totals, key=totals.get)


class Counting:
    """A reward with a state of its own: the more it has been asked, the less it pays."""

    name = "counting"

    def __init__(self):
        self.asked = 0

    def __call__(self, prompts, completions, **columns):
        self.asked += len(completions)
        return [text.count("a") / self.asked for text in completions]

    def state_dict(self):
        return {"asked": self.asked}

    def load_state_dict(self, state):
        self.asked = int(state["asked"])


@pytest.mark.parametrize(
    "made", [Counting, lambda: WeightedSum({"n": Normalize(score, running=True), "c": Counting()})]
)
def test_a_reward_that_keeps_a_state_goes_on_with_it(made, task, tmp_path):
    whole = learn(new_agent("grpo", tmp_path / "whole", reward=made()))
    learn(new_agent("grpo", tmp_path / "parts", reward=made()), callback=stop_at(215))
    resumed = textgym.load_agent(
        tmp_path / "parts", out=tmp_path / "parts", reward=made(), exact=True
    )
    learn(resumed)
    assert digests(resumed) == digests(whole)
    with pytest.raises(InputError, match=r"not be exact: reward: the checkpoint has a state of it"):
        textgym.load_agent(tmp_path / "parts", reward="length", exact=True)
    textgym.load_agent(tmp_path / "parts", reward="length")


class Keeping(Counting):
    """A reward whose state is whatever it is given."""

    def __init__(self, kept=None):
        super().__init__()
        self.kept = kept

    def state_dict(self):
        if isinstance(self.kept, Exception):
            raise self.kept
        return {"asked": self.asked, "kept": self.kept}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.kept = state["kept"]


@pytest.mark.parametrize("wrap", [lambda reward: reward, lambda reward: Squash(reward)])
def test_numbers_of_a_rewards_state_that_are_not_finite_come_back(wrap, task, tmp_path):
    kept = [float("-inf"), {"nan": float("nan"), "array": np.array([np.inf, 1.0])}, (1, True, "é")]
    learn(new_agent("grpo", tmp_path / "run", reward=wrap(Keeping(kept))), callback=stop_at(215))
    back = Keeping()
    textgym.load_agent(tmp_path / "run", reward=wrap(back), exact=True)
    least, table, row = back.kept
    assert least == float("-inf") and type(least) is float
    assert np.isnan(table["nan"]) and type(table["nan"]) is float
    assert table["array"].tolist() == [np.inf, 1.0]
    assert row == [1, True, "é"]  # a tuple is a list


@pytest.mark.parametrize(
    "kept, said",
    [
        ({1, 2}, r"reward: state_dict\['kept'\]: expected tables .* got set"),
        ({1: "a"}, r"reward: state_dict\['kept'\]: expected tables with names, .* got dict"),
        ([np.array(["a"])], r"reward: state_dict\['kept'\]\[0\]: expected .* an array of <U1"),
        (RuntimeError("not now"), r"reward: its state_dict raised RuntimeError: not now"),
    ],
)
def test_a_state_that_no_checkpoint_holds_is_told_and_nothing_is_lost(kept, said, task, tmp_path):
    agent = learn(new_agent("grpo", tmp_path / "run", reward=Keeping(kept)))
    with pytest.raises(InputError, match=said):
        textgym.load_agent(tmp_path / "run", reward=Keeping(), exact=True)
    resumed = textgym.load_agent(tmp_path / "run", reward=Keeping())
    assert resumed.num_timesteps == agent.num_timesteps


def one_of_many(rng):
    """A prompt with columns, from a generator."""
    letters = "".join(rng.choice(list("abcd"), size=int(rng.integers(1, 5))))
    return {"prompt": letters, "wanted": [letters[0], float(rng.random())]}


def wanted_letters(prompts, completions, wanted):
    return [
        text.count(letter) + luck for text, (letter, luck) in zip(completions, wanted, strict=True)
    ]


@pytest.mark.parametrize("word", ["ppo", "grpo", "dqn"])
def test_prompts_of_a_function_and_dialogues_go_on(word, tmp_path):
    lm = tiny_lm(spread=6.0, num_hidden_layers=1)
    register_task(
        tokenizer=lm.tokenizer, prompts=one_of_many, max_prompt_tokens=5, reward=wanted_letters,
        max_new_tokens=9, max_context=24,
        reply=lambda prompt, turns: "ab" if len(turns) < 3 else None,
    )  # fmt: skip
    try:
        whole = learn(new_agent(word, tmp_path / "whole"))
        learn(new_agent(word, tmp_path / "parts"), callback=stop_at(215))
        resumed = learn(textgym.load_agent(tmp_path / "parts", out=tmp_path / "parts", exact=True))
        assert digests(resumed) == digests(whole)
        assert rows_of(tmp_path / "parts/metrics.jsonl") == rows_of(
            tmp_path / "whole/metrics.jsonl"
        )
    finally:
        unregister_task()


def test_what_is_another_environment_is_told(task, tmp_path):
    learn(new_agent("ppo", tmp_path / "run"), 80)
    with pytest.raises(InputError, match=r"width was 11, is 12.*max_new_tokens was 6, is 7"):
        textgym.load_agent(tmp_path / "run", env_kwargs={"max_new_tokens": 7}, exact=True)
    with pytest.raises(InputError, match="the environment has other prompts"):
        textgym.load_agent(tmp_path / "run", env_kwargs={"prompts": ["bbbbb"]}, exact=True)
    with pytest.raises(InputError, match="n_envs was 4, is 2"):
        textgym.load_agent(tmp_path / "run", n_envs=2, exact=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    with pytest.raises(InputError, match=f"threads was {threads}, is {threads + 1}"):
        textgym.load_agent(tmp_path / "run", exact=True)
    torch.set_num_threads(threads)
    with pytest.raises(InputError, match="another seed"):
        textgym.load_agent(tmp_path / "run", seed=4, exact=True)
    changed = textgym.load_agent(tmp_path / "run", n_envs=2, seed=4)  # asked for: no word of it
    learn(changed, 120)


def test_a_checkpoint_of_an_earlier_version_is_gone_on_with_where_that_is_asked_for(task, tmp_path):
    run = tmp_path / "run"
    learn(new_agent("ppo", run), 120)
    last = run / "checkpoints/last"
    state = read_agent(last)[2]
    state = {k: v for k, v in state.items() if k != "training"}
    state |= {"generator": None, "policy_seed": 3}
    write_trainer_state(state, last)
    write_manifest(last)
    with pytest.warns(UserWarning, match=r"earlier version, .*: they begin anew"):
        textgym.load_agent(run)
    with pytest.raises(InputError, match=r"would not be exact.*earlier version.*--force-resume"):
        textgym.load_agent(run, out=run, exact=True)
    with pytest.warns(UserWarning, match="going on is not exact"):
        agent = textgym.load_agent(run, out=run)
    learn(agent, 200)
    assert [row["step"] for row in rows_of(run / "metrics.jsonl")] == [40, 80, 120, 160, 200]


def normalized(env):
    return VecNormalize(env, norm_obs=False, gamma=1.0)


@pytest.mark.parametrize("word", ["ppo", "dqn"])
def test_the_statistics_of_a_normalized_environment_go_on(word, task, tmp_path):
    def made(seed):
        env = normalized(textgym.make_vec(ID, 4, seed=seed, tokenizer=letter_tokenizer()))
        return textgym.make_agent(
            word,
            env,
            policy=tiny_lm(spread=6.0, num_hidden_layers=1),
            seed=0,
            **{"learning_rate": 0.01, **SMALL[word]},
        )

    agent = learn(made(3), 200)
    textgym.save_agent(agent, tmp_path / "agent")
    learn(agent)  # before the other is loaded: both draw from the global generators
    other = normalized(textgym.make_vec(ID, 4, seed=9, tokenizer=letter_tokenizer()))
    again = textgym.load_agent(tmp_path / "agent", env=other, exact=True)
    assert digests(learn(again)) == digests(agent)


def test_an_environment_without_a_state_is_told(task, tmp_path):
    class Quiet(VecEnvWrapper):
        def reset(self):
            return self.venv.reset()

        def step_wait(self):
            return self.venv.step_wait()

    def env():
        return Quiet(textgym.make_vec(ID, 4, seed=3, tokenizer=letter_tokenizer()))

    lm = tiny_lm(num_hidden_layers=1)
    agent = textgym.make_agent("ppo", env(), policy=lm, seed=0, n_steps=10, batch_size=20)
    learn(agent, 80)
    textgym.save_agent(agent, tmp_path / "agent")
    with pytest.raises(InputError, match=r"has a Quiet, which keeps no state \(state_dict\)"):
        textgym.load_agent(tmp_path / "agent", env=env(), exact=True)
    learn(textgym.load_agent(tmp_path / "agent", env=env()), 120)
    settings = {"policy": lm, "seed": 0, "n_steps": 10, "batch_size": 20}
    learn(textgym.make_agent("ppo", env(), out=tmp_path / "run", **settings), 80)
    with pytest.warns(UserWarning, match="has a Quiet, which keeps no state"):
        textgym.load_agent(tmp_path / "run", env=env(), out=tmp_path / "run")


def test_a_second_learn_that_counts_anew_goes_on_too(task, tmp_path):
    def both(out, **keywords):
        agent = new_agent("grpo", out)
        agent.learn(120)
        return agent.learn(300, **keywords)

    whole = both(tmp_path / "whole")
    both(tmp_path / "parts", callback=lambda names, _: names["self"].num_timesteps != 152)
    resumed = textgym.load_agent(tmp_path / "parts", out=tmp_path / "parts", exact=True)
    assert 0 < resumed.num_timesteps < 152
    resumed.learn(300 - resumed.num_timesteps, reset_num_timesteps=False)
    assert digests(resumed) == digests(whole)
    for record in ("metrics.jsonl", "samples.jsonl"):
        assert rows_of(tmp_path / "parts" / record) == rows_of(tmp_path / "whole" / record)
