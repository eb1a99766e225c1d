"""What the verbs propose when they are done can be typed as it stands."""

import io
import os
import shlex
import shutil
import sys

import gymnasium
import pytest
import yaml
from rich.console import Console

from textgym.command_line.output import next_steps
from textgym.demonstration.report import print_next_steps


def commands(verb, out, **values):
    """The proposed commands, as a shell cuts them into words."""
    lines = [line for line in next_steps(verb, str(out), values) if line.startswith("  textgym ")]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize("verb", ["pretrain", "sft", "fit-reward"])
def test_directories_with_spaces_stay_one_word(verb):
    train = commands(verb, "my runs/a", policy="my lm")[-1]
    given = dict(zip(train[2::2], train[3::2], strict=True))
    reward = verb == "fit-reward"
    assert given == {
        "--policy": "my lm" if reward else "my runs/a",
        **({"--reward": "my runs/a"} if reward else {}),
        "--out": "my runs/ppo",
    }


def test_the_evaluation_is_of_the_task_that_was_trained_on():
    fields = {"max_new_tokens": 24, "stop": ["a b"]}
    tensorboard, evaluate, _ = commands(
        "train", "runs/a", env="x/Y-v0", reward="length,target=12", env_kwargs=fields
    )
    assert tensorboard == ["tensorboard", "runs/a"]
    assert evaluate[:6] == "evaluate x/Y-v0 --policy runs/a --reward length,target=12".split()
    assert evaluate[6:] == ["--env-kwargs", "max_new_tokens=24", "--env-kwargs", 'stop=["a b"]']


def test_a_policy_that_was_trained_through_a_chat_template_is_asked_through_it():
    fields = {"chat": True, "system": "Be brief."}
    generate = commands("train", "runs/a", env="x/Y-v0", env_kwargs=fields)[2]
    assert generate[-3:] == ["--chat", "--system", "Be brief."]
    generate = commands("train", "runs/a", env="x/Y-v0", env_kwargs={"chat": False})[2]
    assert "--chat" not in generate


def test_flags_of_a_chat_are_proposed_as_flags(tmp_path):
    fields = {"chat": True, "system": "Be brief.", "max_new_tokens": 4}
    for given in ({"env_kwargs": fields}, {"env_kwargs": {"max_new_tokens": 4}, **fields}):
        given.pop("max_new_tokens", None)
        evaluate = commands("train", "runs/a", env="x/Y-v0", **given)[1]
        more = ["--env-kwargs", "max_new_tokens=4", "--chat", "--system", "Be brief."]
        assert evaluate == ["evaluate", "x/Y-v0", "--policy", "runs/a", *more]
    saved = {"chat": True, "system": "Be brief."}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved), encoding="utf-8")
    for given in (saved, {"resume": True}):
        _, generate, train = commands("sft", tmp_path, **given)
        assert generate[-3:] == train[-3:] == ["--chat", "--system", "Be brief."]
    assert "--chat" not in commands("sft", "runs/a", policy="lm")[-1]


def test_after_resume_the_runs_own_settings_are_named(tmp_path):
    out = tmp_path / "my run"
    out.mkdir()
    saved = {"policy": "runs/lm", "env": "x/Y-v0", "reward": "runs/rm"}
    (out / "config.yaml").write_text(yaml.safe_dump(saved), encoding="utf-8")
    [train] = commands("fit-reward", out, resume=True)
    assert train[2:4] == ["--policy", "runs/lm"]
    evaluate = commands("train", out, resume=True)[1]
    assert evaluate == ["evaluate", "x/Y-v0", "--policy", str(out), "--reward", "runs/rm"]


@pytest.mark.parametrize("verb", ["pretrain", "pretrain-vae"])
def test_a_task_that_the_model_has_no_room_for_is_not_proposed(verb):
    width = gymnasium.make("textgym/MovieReview-v0").observation_space.shape[0]
    assert commands(verb, "a", context=width)[-1][1] == "textgym/MovieReview-v0"
    assert commands(verb, "a")[-1][1] == "textgym/MovieReview-v0"
    assert commands(verb, "a", context=width - 1)[-1][1] == "ENV"


def test_what_python_opens_has_no_tilde():
    line = next_steps("train", "~/runs/a", {"env": "x/Y-v0"})[-1]
    assert line.endswith(f"from_pretrained({os.path.expanduser('~/runs/a')!r})")


@pytest.mark.parametrize("below", [".", "elsewhere"])
def test_the_demo_names_the_command_that_is_there(below, tmp_path, monkeypatch):
    here, script = tmp_path / below, tmp_path / ".venv" / "bin" / "textgym"
    here.mkdir(exist_ok=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    shown = io.StringIO()
    study = tmp_path / "my demo"
    print_next_steps(Console(file=shown), study / "report.html", study / "run", 1.0)
    lines = [line for line in shown.getvalue().splitlines() if "tensorboard" in line]
    [words] = map(shlex.split, lines)
    assert words[1:] == ["tensorboard", str(tmp_path / "my demo")]
    assert (here / words[0]) == script
