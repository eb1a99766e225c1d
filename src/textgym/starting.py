"""Ctrl-C while the command `textgym` starts, and while it ends: one line, never a traceback.

It is the first thing that the package imports, and imports next to nothing itself: whatever comes
before it is the interpreter's own start.
"""

import os
import signal
import sys

INTERRUPTED = 130  # as a shell says it
ENDS_WITH_STDIN = "TEXTGYM_ENDS_WITH_STDIN"  # the variable that `compare` gives its runs


def guard_start() -> None:
    """From here on Ctrl-C ends the process in one line, until `end_guard`.

    Only where the process is the command: nothing has been begun then, and an interrupt inside the
    import of some library is a traceback, or worse. A program that imports textgym keeps its own
    handler.
    """
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _handle(_leave)


def end_guard() -> None:
    """Ctrl-C is a `KeyboardInterrupt` again: something begins that could be lost."""
    if signal.getsignal(signal.SIGINT) is _leave:
        _handle(signal.default_int_handler)


def guard_end(code: int) -> None:
    """All is done and saved: Ctrl-C only hurries the end of the command, with its exit code."""
    if _is_command() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        sys.stdout.flush()
        _handle(lambda number, frame: os._exit(code))


def end_with_parent() -> None:
    """Where `compare` started this process: be interrupted once that one is gone.

    Its end, whatever caused it, closes the pipe that is our standard input.
    """
    if os.environ.pop(ENDS_WITH_STDIN, None) != "1":
        return
    import threading

    def watch() -> None:
        try:
            while os.read(0, 4096):
                pass
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _leave(number: int, frame: object) -> None:
    os.write(2, b"textgym: interrupted\n")
    os._exit(INTERRUPTED)


def _handle(handler: "signal._HANDLER") -> None:
    try:
        signal.signal(signal.SIGINT, handler)
    except ValueError:  # not the main thread, which alone hears signals
        pass


def _is_command() -> bool:
    """Whether this process was started as `textgym` or `python -m textgym`."""
    program: str = (getattr(sys, "argv", None) or [""])[0]
    if program == "-m":  # while Python imports the package whose __main__ it will run
        return any(word in ("textgym", "-mtextgym") for word in sys.orig_argv[:8])
    folder, name = os.path.split(program)
    if name == "__main__.py":
        return os.path.basename(folder) == "textgym"
    return name.partition(".")[0] == "textgym"
