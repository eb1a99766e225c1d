"""Every flag of every verb with values that make no sense: exit code 2, one line, nothing left."""

import inspect
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from bad_flags import answers, bad_cases, watchdog, what_is_wrong, write_inputs
from front_door import ENV

from textgym.checks import RANGES
from textgym.command_line.cli import LISTINGS
from textgym.command_line.verbs import VERBS
from textgym.errors import InputError
from textgym.registry import import_reference

COMMANDS = 30
FUNCTIONS = {
    "demo": ("textgym.demonstration.run:run_demo", (), {}),
    "pretrain": ("textgym:pretrain", ("corpus.txt",), {"out": "out"}),
    "sft": ("textgym:sft", ("pairs.jsonl",), {"policy": "lm", "out": "out"}),
    "fit-reward": ("textgym:fit_reward", ("ratings.jsonl",), {"policy": "lm", "out": "out"}),
    "train": ("textgym:train", (ENV,), {"out": "out", "policy": "lm"}),
    "evaluate": ("textgym:evaluate", (ENV,), {"policy": "lm"}),
    "generate": ("textgym:generate", ("lm",), {"prompt": "cat"}),
    "make_agent": ("textgym:make_agent", ("ppo", ENV), {"policy": "lm"}),
    "make_vec": ("textgym:make_vec", (ENV,), {}),
    "tensorboard": ("textgym.command_line.listings:show_tensorboard", ("events",), {}),
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


def test_so_are_they_as_commands(table, tmp_path):
    possible = [c for c in table if not any("\0" in w or "\ud800" in w for w in c.words)]
    chosen = [possible[i * len(possible) // COMMANDS] for i in range(COMMANDS)]

    def answer(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        case = chosen[number]
        command = [sys.executable, "-m", "textgym", *case.words]
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        return what_is_wrong(case, result.returncode, result.stderr, os.listdir(folder))

    with ThreadPoolExecutor(2) as pool:
        wrong = [fault for fault in pool.map(answer, range(COMMANDS)) if fault]
    assert not wrong, "\n".join(wrong)
