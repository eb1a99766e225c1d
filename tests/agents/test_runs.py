"""Reading runs: settings, record, samples, checkpoints, and the runs inside a directory."""

import ast
import inspect
import math
from pathlib import Path

import pytest
from front_door import ENV, byte_lm, read_lines, small_agent

import textgym
from textgym import run_files
from textgym.agents import Run
from textgym.errors import InputError
from textgym.policies import CausalLM

SOURCES = Path(textgym.__file__).parent


def words():
    """What run_files.py names, each a string."""
    return {value for name, value in vars(run_files).items() if name.isupper()}


def test_a_run_says_what_it_was_and_what_came_out(tmp_path):
    agent = small_agent(out=tmp_path / "a", learning_rate=1e-3)
    run = textgym.open_run(tmp_path / "a")
    assert type(run) is Run and run.metrics() == [] and run.checkpoints == {}
    agent.learn(256)  # the agent writes, and whoever reads does not mind
    assert run.config["learning_rate"] == 1e-3 and run.config["env"] == ENV
    assert run.config["gamma"] == 1.0  # defaults too
    rows = run.metrics()
    assert [row["step"] for row in rows] == [128, 256] and run.last_step() == 256
    assert rows[1]["reward/total"] == read_lines(tmp_path / "a/metrics.jsonl")[1]["reward/total"]
    assert run.prompts == [row["prompt"] for row in run.samples()[: len(run.prompts)]]
    assert {row["step"] for row in run.samples()} >= {0, 256}
    assert {"last", "previous"} <= run.checkpoints.keys()
    last = run.checkpoints["last"]
    assert textgym.load_agent(last).num_timesteps == 256
    assert isinstance(CausalLM.from_pretrained(last), CausalLM)


def test_what_is_not_finite_or_torn_is_left_out(tmp_path):
    run = Run(tmp_path / "a").take()
    run.record({"verb": "train"}, {})
    run.add_metrics({"step": 1, "a": math.nan, "b": 2.0})
    with open(run.metrics_path, "a", encoding="utf-8") as file:
        file.write('{"step": 2, "b')
    with pytest.warns(UserWarning, match=r"1 torn line\(s\) left out"):
        assert textgym.open_run(tmp_path / "a").metrics() == [{"step": 1, "b": 2.0}]
    run.add_metrics({"step": 2, "b": 3.0})
    assert [row["b"] for row in run.metrics()] == [2.0, 3.0]


def test_a_directory_of_runs_lists_them(tmp_path):
    for name in ("study/b/seed1", "study/a", "study/b/seed0"):
        Run(tmp_path / name).take().record({"verb": "train", "seed": len(name)}, {})
    Run(tmp_path / "study/a/part").take().record({"verb": "sft"}, {})
    (tmp_path / "study/notes").mkdir()
    (tmp_path / "study/loop").symlink_to(tmp_path / "study")
    (tmp_path / "study/a/checkpoints/x").mkdir(parents=True)
    (tmp_path / "study/a/checkpoints/x/config.yaml").write_text("verb: train")
    study = textgym.open_run(tmp_path / "study")
    assert study.config == {} and study.metrics() == []
    names = [run.directory.relative_to(study.directory).as_posix() for run in study.children()]
    assert names == ["a", "b/seed0", "b/seed1"]
    assert [run.config["verb"] for run in study.children()[0].children()] == ["sft"]


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(InputError, match="none: no such directory; expected that of a run"):
        textgym.open_run(tmp_path / "none")
    byte_lm().save_pretrained(tmp_path / "lm")
    with pytest.raises(InputError, match=r"lm: holds no config\.yaml, so it is no run"):
        textgym.open_run(tmp_path / "lm")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/config.yaml").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"config\.yaml: expected a table of settings"):
        textgym.open_run(tmp_path / "bad")


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: path.name)
def test_the_names_of_files_stand_in_one_place(path):
    """No module but run_files.py spells a name of a run directory, alone or at a path's start."""
    if path == Path(inspect.getfile(run_files)):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # Others, such as "best" and "tensorboard", are words of the language too.
    names = {word for word in words() if "." in word or word == run_files.CHECKPOINTS}
    spelled = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.partition("/")[0] in names
    ]
    assert spelled == []
