"""Ctrl-C in the first moments of the command, and in its last: one line, never a traceback."""

import os
import signal
import subprocess
import sys

import pytest

from textgym import starting

COMMAND = "import sys\nfrom textgym.command_line.cli import main\nsys.exit(main())\n"


def interrupted_after(module, words):
    """Exit code and other lines of a process that hears Ctrl-C once it has imported a module."""
    command = [sys.executable, "-X", "importtime", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            if not line.startswith("import time:"):
                lines.append(line)
            elif line.split()[-1] == module:
                process.send_signal(signal.SIGINT)
        return process.wait(), lines


@pytest.mark.parametrize(
    "module, is_script",
    [("numpy._core", False), ("gymnasium.core", True), ("typer", False), ("torch._C", True)],
)
def test_the_command_ends_in_one_line_while_it_imports(tmp_path, module, is_script):
    script = tmp_path / "textgym"
    script.write_text(COMMAND)
    words = [str(script)] if is_script else ["-m", "textgym"]
    code, lines = interrupted_after(module, [*words, "pretrain", "no.txt", "--out", "out"])
    assert (code, lines) == (130, ["textgym: interrupted\n"])


def test_when_all_is_done_it_only_hurries_the_end(tmp_path):
    late = "import atexit, os\natexit.register(lambda: os.kill(os.getpid(), 2))\n"
    (tmp_path / "textgym").write_text(late + COMMAND)
    command = [sys.executable, str(tmp_path / "textgym"), "envs"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert "textgym/Length-v0" in result.stdout


@pytest.mark.parametrize(
    "argv, original, is_command",
    [
        (["/venv/bin/textgym", "envs"], ["python", "/venv/bin/textgym", "envs"], True),
        ([r"textgym.exe"], ["textgym.exe"], True),
        (["-m", "envs"], ["python", "-m", "textgym", "envs"], True),
        (["/lib/textgym/__main__.py"], ["python", "-m", "textgym"], True),
        (["/lib/pytest/__main__.py"], ["python", "-m", "pytest", "textgym"], False),
        (["-m"], ["python", "-m", "pytest", "tests"], False),
        (["train.py"], ["python", "train.py"], False),
        (["-c"], ["python", "-c", "import textgym"], False),
        ([], ["python"], False),
    ],
)
def test_who_is_the_command(monkeypatch, argv, original, is_command):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    before = signal.getsignal(signal.SIGINT)
    try:
        starting.guard_start()
        assert (signal.getsignal(signal.SIGINT) is not before) == is_command
        starting.end_guard()
        assert signal.getsignal(signal.SIGINT) is before
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_of_the_programs_own_stays(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["textgym"])
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts background jobs
    try:
        starting.guard_start()
        starting.guard_end(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_program_that_imports_textgym_hears_its_own_interrupts(tmp_path):
    program = (
        "import os, textgym\n"
        "try:\n    os.kill(os.getpid(), 2)\nexcept KeyboardInterrupt:\n    print('mine')\n"
    )
    (tmp_path / "program.py").write_text(program)
    command = [sys.executable, str(tmp_path / "program.py")]
    result = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert (result.returncode, result.stdout) == (0, "mine\n")
