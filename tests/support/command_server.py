"""Command lines as processes of their own that share one start: the imports are paid once.

Reads `{"folder": ..., "words": [...]}` a line, and answers with `{"code": ..., "error": ...}`. Each
command is a fork that ends as an interpreter ends; what a fresh start adds is tested elsewhere.
"""

import gc
import json
import os
import signal
import sys
import tempfile

import textgym.demonstration.run
import textgym.training  # noqa: F401
from textgym.command_line.cli import main

SECONDS = 120


def run(folder, words, error):
    """Be the command `textgym`, from here to the end of the process."""
    signal.alarm(SECONDS)
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream, target in ((0, nothing), (1, nothing), (2, error.fileno())):
        os.dup2(target, stream)
    sys.argv = ["textgym", *words]
    sys.exit(main())


def answer(folder, words):
    """Exit code (negative for a signal) and standard error of a command line."""
    with tempfile.TemporaryFile() as error:
        child = os.fork()
        if child == 0:
            run(folder, words, error)
        _, status = os.waitpid(child, 0)
        error.seek(0)
        text = error.read().decode("utf-8", "replace")
    return {"code": os.waitstatus_to_exitcode(status), "error": text}


if __name__ == "__main__":
    gc.freeze()  # else each command would take its parent's modules apart at its end
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(**json.loads(line))) + "\n")
        sys.stdout.flush()
