"""Commands and scripts as processes of their own that share one start: the imports are paid once.

Reads `{"folder": ..., "words": [...]}` a line, and answers with `{"code": ..., "output": ...,
"error": ...}`. The words are a script and its arguments, or those of the command `textgym`. Each is
a fork that ends as an interpreter ends; what a fresh start adds is tested elsewhere.
"""

import gc
import json
import os
import runpy
import signal
import sys
import tempfile

import textgym.demonstration.run
import textgym.training  # noqa: F401
from textgym.command_line.cli import main

SECONDS = 120


def run(folder, words, output, error):
    """Be the command or the script, from here to the end of the process."""
    signal.alarm(SECONDS)
    os.chdir(folder)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream, target in ((0, nothing), (1, output.fileno()), (2, error.fileno())):
        os.dup2(target, stream)
    if words[0].endswith(".py"):
        sys.argv, sys.path[0] = words, os.path.dirname(words[0])
        runpy.run_path(words[0], run_name="__main__")
        sys.exit()
    sys.argv = ["textgym", *words]
    sys.exit(main())


def answer(folder, words):
    """Exit code (negative for a signal), standard output and error."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as error:
        child = os.fork()
        if child == 0:
            run(folder, words, output, error)
        _, status = os.waitpid(child, 0)
        texts = []
        for file in (output, error):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return {"code": os.waitstatus_to_exitcode(status), "output": texts[0], "error": texts[1]}


if __name__ == "__main__":
    gc.freeze()  # else each command would take its parent's modules apart at its end
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(**json.loads(line))) + "\n")
        sys.stdout.flush()
