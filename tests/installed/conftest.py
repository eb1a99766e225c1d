"""How the tests of this folder run Python: each script and command as a process of its own.

Beside a wheel (`.ci/run`) each starts afresh. In the checkout they are forks of one process, which
has paid for the imports: a start takes seconds, and there are some twenty.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(p for p in Path(__file__).resolve().parents if (p / "README.md").is_file())
SERVER = ROOT / "tests" / "support" / "command_server.py"  # none beside a wheel
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1", "COLUMNS": "120"}


@pytest.fixture(scope="session")
def run_words():
    """A function (words, folder) -> exit code, standard output and standard error.

    The first word is a script, or else a verb of the command `textgym`.
    """
    if not SERVER.is_file():
        yield run_afresh
        return
    pipe, command = subprocess.PIPE, [sys.executable, str(SERVER)]
    with subprocess.Popen(
        command, stdin=pipe, stdout=pipe, env=ENVIRONMENT, encoding="utf-8"
    ) as server:

        def run_forked(words, folder):
            server.stdin.write(json.dumps({"folder": str(folder), "words": words}) + "\n")
            server.stdin.flush()
            answer = json.loads(server.stdout.readline())
            return answer["code"], answer["output"], answer["error"]

        yield run_forked
        server.stdin.close()


def run_afresh(words, folder):
    """As a new process."""
    start = [sys.executable] if words[0].endswith(".py") else [sys.executable, "-m", "textgym"]
    done = subprocess.run(
        [*start, *words],
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr
