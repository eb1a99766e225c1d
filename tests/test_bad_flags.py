"""Every flag of every verb with values that make no sense: exit code 2, one line, nothing left."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from bad_flags import answers, bad_cases, what_is_wrong, write_inputs

from textgym.cli import LISTINGS
from textgym.cli_verbs import VERBS

COMMANDS = 30


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """The command lines, with the files they name."""
    here = tmp_path_factory.mktemp("inputs")
    write_inputs(here)
    return bad_cases(here)


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
