"""What is drawn anew, what is refused as it would not be used, and what a shell's names see."""

import subprocess
import sys

import pytest
from front_door import ENV, byte_lm, small_agent
from stable_baselines3.common.callbacks import BaseCallback

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.agents.runs.callbacks import ProgressBar
from textgym.command_line.imports import see_named_modules
from textgym.errors import InputError
from textgym.policies.language_model.sampling import Sampling
from textgym.reward_models import Length
from textgym.tokenizer import Tokenizer


def test_generate_draws_anew_unless_a_seed_is_given():
    lm = byte_lm()
    for write in (
        lambda **seed: textgym.generate(lm, prompt="a", max_new_tokens=16, **seed),
        lambda **seed: lm.generate(["a"], max_new_tokens=16, **seed),
    ):
        assert write() != write()
        assert write(seed=3) == write(seed=3) != write(seed=4)
        assert write(temperature=0) == write(temperature=0)
        assert write(seed=3) == write(seed=3, temperature=1.0)  # the model's own distribution


def test_arguments_that_would_not_be_used_are_refused(tmp_path):
    lm = byte_lm()
    with pytest.raises(InputError, match="reference is of the KL term: give kl_coef too"):
        textgym.make_agent("ppo", ENV, policy=lm, reference=lm)
    with pytest.raises(InputError, match="kl_estimator is of the KL term"):
        textgym.make_agent("grpo", ENV, policy=lm, n_envs=8, kl_estimator="k3")
    with pytest.raises(InputError, match="n_episodes=3 is for prompts that are drawn"):
        textgym.evaluate(ENV, policy=lm, prompts=["a", "b"], n_episodes=3)
    for keywords in ({"top_k": 3}, {"top_p": 0.5}):
        with pytest.raises(InputError, match="temperature 0 takes the likeliest token, so top_k"):
            textgym.generate(lm, prompt="a", temperature=0, **keywords)
        with pytest.raises(InputError, match="temperature 0 takes the likeliest token, so top_k"):
            textgym.evaluate(ENV, policy=lm, temperature=0, **keywords)
    assert Sampling(temperature=0).top_k == 0


def test_what_is_given_twice_is_refused_and_what_is_given_at_loading_wins(tmp_path):
    lm, reward = byte_lm(), {"reward": "length"}
    with pytest.raises(InputError, match="reward is given twice, by itself and in env_kwargs"):
        textgym.make_agent("a2c", ENV, policy=lm, reward="length", env_kwargs=reward)
    with pytest.raises(InputError, match="reward is given twice"):
        textgym.evaluate(ENV, policy=lm, reward="length", env_kwargs=reward)
    with pytest.raises(InputError, match="prompts is given twice"):
        textgym.evaluate(ENV, policy=lm, prompts=["a"], env_kwargs={"prompts": ["b"]})
    other = {"tokenizer": Tokenizer.character(["abc"])}
    for call in (
        lambda **kw: textgym.make_agent("a2c", ENV, **kw),
        lambda **kw: textgym.evaluate(ENV, **kw),
    ):
        with pytest.raises(InputError, match="tokenizer in env_kwargs is not the policy's"):
            call(policy=lm, env_kwargs=other)
    same = textgym.evaluate(ENV, policy=lm, n_episodes=2, env_kwargs={"tokenizer": lm.tokenizer})
    assert len(same.episodes) == 2
    agent = textgym.make_agent("a2c", ENV, policy=lm, n_envs=2, reward="length,target=3")
    save_agent(agent, tmp_path / "a")
    for keywords in ({"reward": "length,target=5"}, {"env_kwargs": {"reward": Length(5)}}):
        again = textgym.load_agent(tmp_path / "a", **keywords)
        assert again.env.get_attr("task")[0].reward.target == 5
        save_agent(again, tmp_path / "b")
        if "reward" in keywords:
            assert textgym.load_agent(tmp_path / "b").env.get_attr("task")[0].reward.target == 5


def test_an_agent_is_loaded_without_the_kl_term_that_it_had(tmp_path):
    agent = small_agent("a2c", kl_coef=0.1, kl_estimator="k2", reference=byte_lm(seed=1))
    save_agent(agent, tmp_path / "a")
    again = textgym.load_agent(tmp_path / "a", kl_coef=0.0)
    assert again.rollout_buffer.kl is None
    with pytest.raises(InputError, match="reference is of the KL term"):
        textgym.load_agent(tmp_path / "a", kl_coef=0.0, reference=byte_lm())


def test_a_fresh_model_on_english_prompts_warns_and_names_the_bundled_one(recwarn):
    keywords = {"n_envs": 2, "env_kwargs": {"reward": "length"}}
    with pytest.warns(UserWarning, match=r"knows no word: policy='start' is the English model"):
        textgym.make_agent("a2c", "textgym/MovieReview-v0", **keywords)
    recwarn.clear()
    textgym.make_agent("a2c", ENV, **keywords)  # a handful of prompts is a toy
    prompts = [f"一 {i}" for i in range(200)]
    textgym.register("test/Other-v0", prompts=prompts, reward="length", max_new_tokens=4)
    textgym.make_agent("a2c", "test/Other-v0", n_envs=2)
    textgym.make_agent("a2c", "textgym/MovieReview-v0", policy=byte_lm(), **keywords)
    assert not recwarn.list


# ---- the current folder ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a module that stands nowhere else, and a path without it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only_here.py").write_text("")
    (tmp_path / "random.py").write_text("")
    (tmp_path / "package_here").mkdir()
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    return str(tmp_path)


@pytest.mark.parametrize(
    ("values", "is_seen"),
    [
        ({"env": "only_here:me/Mine-v0"}, True),
        ({"reward": "only_here:rhymes,x=1"}, True),
        ({"gold": ["critic", "package_here.inner:judge"]}, True),
        ({"env_kwargs": {"reward": "only_here:rhymes"}}, True),
        ({"reward": "random:choice"}, False),  # the standard library's
        ({"reward": "nowhere:rhymes"}, False),
        ({"reward": "length", "env": "textgym/Length-v0"}, False),
        ({"policy": "only_here:x", "prompt": ["only_here:x"]}, False),  # no module is meant
    ],
)
def test_only_a_module_that_is_named_and_stands_here_is_seen(folder, values, is_seen):
    see_named_modules(values)
    assert (sys.path[-1] == folder) is is_seen
    assert folder not in sys.path[:-1]


def test_the_command_sees_the_current_folder(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import textgym\n"
        "def rhymes(prompts, completions): return [1.0 for c in completions]\n"
        "textgym.register('me/Mine-v0', prompts=['a'], reward=rhymes, max_new_tokens=2)\n"
    )
    byte_lm().save_pretrained(tmp_path / "lm")
    program = (
        "import sys; sys.path.remove(''); "
        "from textgym.command_line.cli import main; sys.exit(main())"
    )
    arguments = ["evaluate", "mine:me/Mine-v0", "--policy", "lm", "--n-episodes", "2", "--json"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert '"reward"' in done.stdout


# ---- the progress bar -----------------------------------------------------------------------


class Early(BaseCallback):
    def _on_step(self):
        return self.num_timesteps < 64


def test_the_progress_bar_counts_tokens(capsys):
    agent = small_agent("a2c", n_steps=8)
    bar = ProgressBar()
    agent.learn(128, callback=bar)
    assert (bar._bar.total, bar._bar.n) == (128, 128) and bar._bar.disable
    agent.learn(128, callback=[bar, Early()])
    assert (bar._bar.total, bar._bar.n) == (128, 64)
    assert "64.0/128" in capsys.readouterr().err


def test_the_progress_bar_ends_its_line_before_an_error_is_said(tmp_path, capsys):
    def fails(prompts, completions):
        raise ValueError("my own mistake")

    with pytest.raises(InputError, match="my own mistake") as caught:
        textgym.train(ENV, reward=fails, n_envs=2, timesteps=64, out=tmp_path / "run")
    assert capsys.readouterr().err.endswith("\n")
    del caught  # which would hold the bar open till now


def test_settings_of_another_type_are_named():
    lm = byte_lm()
    for keywords, name in (({"out": 3}, "out"), ({"env_kwargs": 3}, "env_kwargs")):
        with pytest.raises(InputError, match=rf"^{name} must be .*, got 3$"):
            textgym.make_agent("ppo", ENV, policy=lm, n_envs=2, **keywords)
    with pytest.raises(InputError, match="env_kwargs must be a table of a task's fields"):
        textgym.evaluate(ENV, policy=lm, env_kwargs=3)
