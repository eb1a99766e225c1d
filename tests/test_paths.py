"""`~` is the home directory wherever a path is taken, and a place does not move with the folder."""

from pathlib import Path

import pytest
from front_door import ENV, byte_lm

import textgym
from textgym.agents.rollouts.kl import KLPenalty
from textgym.command_line.config_file import read_config_file
from textgym.command_line.tensorboard import show_tensorboard
from textgym.command_line.verbs import chosen_agent
from textgym.envs.texts.corpus import read_texts
from textgym.envs.texts.prompts import PromptSource
from textgym.errors import InputError
from textgym.json_lines import read_metrics
from textgym.paths import absolute, expand
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.reward_models import Lexicon
from textgym.reward_models.rules.lexicon import read_lexicon
from textgym.tokenizer import Tokenizer


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home directory of our own, and a current folder beside it that must stay empty."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "home"
    assert list((tmp_path / "here").iterdir()) == []


def test_only_a_tilde_at_the_beginning_is_home(home):
    assert expand("~/runs") == home / "runs" and expand("~") == home
    assert expand("a/~/b") == Path("a/~/b") and expand("./~x") == Path("./~x")
    assert absolute("runs/../a") == Path.cwd() / "a"
    assert expand("~nobody_of_that_name/x") == Path("~nobody_of_that_name/x")


def test_what_is_read_is_found_at_home(home):
    lm = byte_lm()
    lm.save_pretrained("~/lm")
    assert (home / "lm" / "model.safetensors").is_file()
    assert CausalLM.from_pretrained("~/lm").config == lm.config
    assert Tokenizer.load("~/lm") == lm.tokenizer
    assert KLPenalty("~/lm").path == str(home / "lm")
    (home / "c.txt").write_text("one\ntwo\n")
    assert list(read_texts("~/c.txt")) == ["one", "two"]
    assert len(PromptSource("~/c.txt", lm.tokenizer)) == 2
    (home / "w.txt").write_text("good\t1.5\n")
    assert read_lexicon("~/w.txt") == {"good": 1.5}
    assert isinstance(textgym.resolve_reward("lexicon,path=~/w.txt"), Lexicon)
    (home / "m.jsonl").write_text('{"step": 1}\n')
    assert read_metrics("~/m.jsonl") == [{"step": 1}]
    (home / "c.yaml").write_text("verb: train\nagent: a2c\n")
    assert read_config_file("~/c.yaml", verb="train", known=["agent"]) == {"agent": "a2c"}
    assert chosen_agent(["train", "--config", "~/c.yaml"]) == "a2c"
    (home / "runs").mkdir()
    with pytest.raises(InputError, match="home/runs: holds no TensorBoard event files"):
        show_tensorboard("~/runs")


def test_the_front_door_reads_and_writes_at_home(home):
    lm = byte_lm()
    lm.save_pretrained("~/lm")
    (home / "p.txt").write_text("One \n")
    assert len(textgym.generate("~/lm", prompt="a", max_new_tokens=2)) == 1
    report = textgym.evaluate(ENV, policy="~/lm", reference="~/lm", prompts="~/p.txt")
    assert [episode.prompt for episode in report.episodes] == ["One "]
    small = {"n_envs": 2, "n_steps": 8, "batch_size": 8, "n_epochs": 1}
    quiet = {"progress_bar": False, "report": lambda line: None}
    textgym.train(
        ENV, policy="~/lm", out="~/r", reference="~/lm", kl_coef=0.1, timesteps=16, **small, **quiet
    )
    assert textgym.load_agent("~/r").num_timesteps == 16
    agent = textgym.make_agent("ppo", ENV, policy="~/lm", out="~/m", tensorboard_log="~/t", **small)
    agent.learn(16)
    assert (home / "m" / "metrics.jsonl").is_file() and list((home / "t").iterdir())
