"""Every flag of every verb with values that make no sense: exit code 2, one line, nothing left."""

import inspect
import json
import math
import os
import subprocess
import sys

import command_server
import pytest
from bad_flags import Case, answers, bad_cases, watchdog, what_is_wrong, write_inputs
from front_door import ENV

from textgym.checks import RANGES
from textgym.command_line.cli import LISTINGS
from textgym.command_line.verbs import VERBS
from textgym.errors import InputError
from textgym.registry import import_reference

COMMANDS, FRESH = 16, 1
FUNCTIONS = {
    "prepare": ("textgym:prepare", ("corpus.txt",), {"out": "out"}),
    "demo": ("textgym.demonstration.run:run_demo", (), {}),
    "pretrain": ("textgym:pretrain", ("corpus.txt",), {"out": "out"}),
    "pretrain-vae": ("textgym:pretrain_vae", ("corpus.txt",), {"out": "out"}),
    "sft": ("textgym:sft", ("pairs.jsonl",), {"policy": "lm", "out": "out"}),
    "fit-reward": ("textgym:fit_reward", ("ratings.jsonl",), {"policy": "lm", "out": "out"}),
    "train": ("textgym:train", (ENV,), {"out": "out", "policy": "lm"}),
    "compare": ("textgym:compare", (ENV,), {"out": "out", "policy": "lm"}),
    "evaluate": ("textgym:evaluate", (ENV,), {"policy": "lm"}),
    "generate": ("textgym:generate", ("lm",), {"prompt": "cat"}),
    "make_agent": ("textgym:make_agent", ("ppo", ENV), {"policy": "lm"}),
    "make_vec": ("textgym:make_vec", (ENV,), {}),
    "tensorboard": ("textgym.command_line.tensorboard:show_tensorboard", ("events",), {}),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """The files that the command lines name."""
    here = tmp_path_factory.mktemp("inputs")
    write_inputs(here)
    return here


@pytest.fixture(scope="module")
def table(inputs):
    """The command lines."""
    return bad_cases(inputs)


@pytest.fixture
def no_server(monkeypatch):
    """TensorBoard would not end, were it ever started."""
    monkeypatch.setattr(subprocess, "call", lambda *command: 0)


def test_the_table_speaks_of_every_verb(table):
    assert {case.verb for case in table} == {*VERBS, *LISTINGS}
    assert len(table) >= 300


@pytest.mark.parametrize("verb", [*VERBS, *LISTINGS])
def test_a_bad_value_is_refused_in_one_line(table, verb, tmp_path, monkeypatch, no_server):
    cases = [case for case in table if case.verb == verb]
    wrong = answers(cases, tmp_path, monkeypatch)
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cases)}:", *wrong])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_functions_refuse_the_same_numbers(inputs, name, tmp_path, monkeypatch):
    """Called from Python, with the parameter's name in the error."""
    target, arguments, keywords = FUNCTIONS[name]
    function = import_reference(target)
    arguments = [inputs / a if (inputs / str(a)).exists() else a for a in arguments]
    keywords = {k: inputs / v if k == "policy" else v for k, v in keywords.items()}
    monkeypatch.chdir(tmp_path)
    numbers = [p for p in inspect.signature(function).parameters if p in RANGES]
    assert numbers
    for parameter in numbers:
        low, high = RANGES[parameter].low, RANGES[parameter].high
        for value in (low - 1, high * 2 + 1, math.nan, "abc", True, [1]):
            with pytest.raises(InputError, match=f"^{parameter} must be .*, got "), watchdog(30):
                function(*arguments, **{**keywords, parameter: value})
    assert os.listdir(tmp_path) == []


def as_commands(table, count):
    """So many of the command lines, spread over all; those that a process can be given."""
    possible = [c for c in table if not any("\0" in w or "\ud800" in w for w in c.words)]
    return [possible[i * len(possible) // count] for i in range(count)]


def test_so_are_they_as_processes(table, tmp_path):
    """Exit code, standard error and what is left, of commands that end as commands do."""
    server = subprocess.Popen(
        [sys.executable, command_server.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def what_is_wrong_with(case, folder):
        server.stdin.write(json.dumps({"folder": str(folder), "words": case.words}) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        left = os.listdir(folder) if folder.is_dir() else []
        return what_is_wrong(case, answer["code"], answer["error"], left)

    with server:
        wrong = []
        for number, case in enumerate(as_commands(table, COMMANDS)):
            folder = tmp_path / str(number)
            folder.mkdir()
            wrong.append(what_is_wrong_with(case, folder))
        # And it would see what is wrong: a command that succeeds, one that ends in a traceback.
        good = Case("envs", ("envs",), ("envs",))
        assert "exit code 0, not one line" in what_is_wrong_with(good, tmp_path / "0")
        assert "exit code 1, not one line" in what_is_wrong_with(good, tmp_path / "nowhere")
        server.stdin.close()
    assert not any(wrong), "\n".join(filter(None, wrong))


def test_and_one_from_a_fresh_start(table, tmp_path):
    for number, case in enumerate(as_commands(table, FRESH)):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-m", "textgym", *case.words]
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert not what_is_wrong(case, result.returncode, result.stderr, os.listdir(folder))
