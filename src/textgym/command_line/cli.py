"""The command line: `textgym VERB ...`; a verb is a function, and its keywords are the flags.

Errors are one line and an exit code: 1 where runs of a comparison or checks of an audit failed, 2
for wrong input, 3 where something could not be written, 130 after an interrupt.
`TEXTGYM_TRACEBACK=1` shows where an error came from.
"""

import contextlib
import errno
import inspect
import os
import re
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from typing import Any

import typer

from textgym import __version__
from textgym.checks import check_numbers
from textgym.command_line.config_file import read_config_file
from textgym.command_line.options import (
    Flag,
    check_texts,
    flags_of,
    from_command_line,
    from_file,
    typer_function,
)
from textgym.command_line.verbs import VERBS, chosen_agent, verb_flags
from textgym.counts import count_of
from textgym.errors import DivergenceError, InputError, TextGymError
from textgym.out_of_memory import is_out_of_memory
from textgym.paths import expand
from textgym.starting import INTERRUPTED, end_guard, end_with_parent, guard_end
from textgym.terminal import visible

Call = Callable[[], int | None]

LISTINGS = {
    "tensorboard": (
        "show runs in TensorBoard",
        "textgym.command_line.tensorboard:show_tensorboard",
    ),
    "label": ("ask people which text is better", "textgym.labelling.verb:label"),
    "envs": ("list the environments", "textgym.command_line.listings:list_envs"),
    "rewards": ("list the reward models", "textgym.command_line.listings:list_rewards"),
    "agents": ("list the algorithms", "textgym.command_line.listings:list_agents"),
    "doctor": ("check this installation", "textgym.command_line.doctor:examine"),
}
PLUGIN_GROUP = "textgym.plugins"
INTERNAL, CANNOT_WRITE = 1, 3
RUNS_FAILED = 1  # of a comparison, whose others are done
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO})


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    :param argv: without the program's name; None takes the process's own.
    """
    end_with_parent()
    code = _exit_code(list(sys.argv[1:] if argv is None else argv))
    guard_end(code)
    return code


def _exit_code(arguments: list[str]) -> int:
    with _signals(), _short_warnings():
        if os.environ.get("TEXTGYM_TRACEBACK") == "1":
            return _run(arguments)
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            _say("interrupted")
            return INTERRUPTED
        except BrokenPipeError:  # such as `textgym envs | head -1`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except Exception as error:
            message, code = _one_line(error, arguments)
            _say(f"error: {message}")
            return code


def _run(arguments: list[str]) -> int:
    """Parse first, then call: an error while parsing has touched nothing."""
    verb = next((a for a in arguments if not a.startswith("-")), None)
    if verb is not None and verb not in ("demo", "generate", "tensorboard"):
        _load_plugins()
    calls: list[Call] = []
    app = _app(verb, arguments, calls.append)
    code = app(arguments or ["--help"], standalone_mode=False, prog_name="textgym")
    end_guard()
    for call in calls:
        code = call()
    return int(code or 0)


def _app(verb: str | None, arguments: list[str], chosen: Callable[[Call], None]) -> typer.Typer:
    """All verbs; only the one that is called gets its flags, since they cost an import."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

    @app.callback(invoke_without_command=True, epilog="textgym VERB --help explains a verb.")
    def about(version: bool = typer.Option(False, "--version", help="print the version")) -> None:
        """Text generation as a Gymnasium environment, trained by Stable-Baselines3 agents."""
        if version:
            print(f"textgym {__version__}")
            raise typer.Exit

    for name, description in VERBS.items():
        if name == verb:
            flags = verb_flags(name, arguments)
            command = typer_function(flags, _chooser(name, flags, chosen), _long_help(name))
        else:
            command = typer_function((), lambda values: None, "")
        app.command(name, help=_long_help(name) if name == verb else description.help)(command)
    for name, (help_line, target) in LISTINGS.items():
        function = _load(target) if name == verb else None
        flags = flags_of(function) if function is not None else []
        command = typer_function(flags, _listing(function, flags, chosen), help_line)
        app.command(name, help=help_line)(command)
    return app


def _chooser(
    verb: str, flags: list[Flag], chosen: Callable[[Call], None]
) -> Callable[[dict[str, Any]], None]:
    return lambda given: chosen(lambda: _call(verb, flags, given))


def _listing(
    function: Any, flags: list[Flag], chosen: Callable[[Call], None]
) -> Callable[[dict[str, Any]], None]:
    by_name = {flag.name: flag for flag in flags}

    def run(given: dict[str, Any]) -> None:
        values = {k: from_command_line(by_name[k], v) for k, v in given.items()}
        _check_values(by_name, values)
        _check_required(flags, values)
        chosen(lambda: function(**values))

    return run


def _call(verb: str, flags: list[Flag], given: dict[str, Any]) -> int | None:
    """Call a verb's function with the flags, on top of a configuration file."""
    from textgym.command_line.imports import see_named_modules
    from textgym.command_line.output import show_result

    by_name = {flag.name: flag for flag in flags}
    values = {name: from_command_line(by_name[name], value) for name, value in given.items()}
    _check_values(by_name, values)
    config = values.pop("config", None)
    if config is not None:
        known = [name for name in by_name if name != "config"]
        settings = read_config_file(config, verb=verb, known=known, given=values)
        settings = {k: from_file(by_name[k], v, config) for k, v in settings.items()}
        _check_values(by_name, settings, where=f"{config}: ")
        values = settings | values
    if not (values.get("resume") or values.get("force_resume")):
        _check_required(flags, values)
    elif "out" not in values:
        raise InputError("--resume needs --out: the run to go on with")
    see_named_modules({**_of_the_run(values), **values})
    extra = {flag.name: values.pop(flag.name, flag.default) for flag in VERBS[verb].extra}
    try:
        result = VERBS[verb].function(**values)
        if getattr(result, "interrupted", False):
            raise KeyboardInterrupt
        if getattr(result, "diverged", ""):
            raise DivergenceError(result.diverged)
    except InputError as error:
        raise _in_flags(error, by_name) from error
    except KeyboardInterrupt:
        _say(f"interrupted: {_how_to_go_on(verb, values)}")
        return INTERRUPTED
    show_result(verb, result, values, extra)
    failures = getattr(result, "failures", None)
    if failures:
        among = " among them" if len(failures) > 1 else ""
        _say(f"error: {count_of(len(failures), 'run')} failed, {next(iter(failures))}{among}")
        return RUNS_FAILED
    return int(getattr(result, "exit_code", 0))


def _check_values(flags: dict[str, Flag], values: dict[str, Any], where: str = "") -> None:
    """What can be refused before anything is opened: numbers out of range, texts that are none.

    :param where: the configuration file; without it, names are written as options.
    """

    def label(name: str) -> str:
        return f"{where}{name}" if where else flags[name].option

    is_word = {name: bool(flags[name].word) and isinstance(v, str) for name, v in values.items()}
    check_numbers({name: v for name, v in values.items() if not is_word[name]}, label=label)
    check_texts(flags, values, label=label)


def _in_flags(error: InputError, flags: dict[str, Flag]) -> InputError:
    """An error that speaks of parameters, with the options of the command line instead."""
    if type(error) is not InputError:
        return error
    first, must, rest = str(error).partition(" must ")
    text = f"{flags[first].option}{must}{rest}" if must and first in flags else str(error)
    for name in (name for name in flags if "_" in name):  # others are words of the language too
        alone = rf"(?<![\w/.'\"-]){name}(?![\w/.'\"-])"
        text = re.sub(alone, flags[name].option, text)
    return InputError(text)


def _of_the_run(values: dict[str, Any]) -> dict[str, Any]:
    """The settings of the run that is gone on with, if there is one."""
    from textgym.agents.runs.settings import read_config
    from textgym.run_files import CONFIG

    is_resumed = values.get("resume") or values.get("force_resume")
    if not is_resumed or not (expand(values["out"]) / CONFIG).is_file():
        return {}
    return read_config(values["out"])


def _check_required(flags: list[Flag], values: dict[str, Any]) -> None:
    missing = [flag.option for flag in flags if flag.is_required and flag.name not in values]
    if missing:
        raise InputError(f"missing {', '.join(missing)}")


def _how_to_go_on(verb: str, values: dict[str, Any]) -> str:
    from textgym.run_files import CHECKPOINTS, LAST

    out = values.get("out")
    if verb == "compare":
        return "what was done is kept; the same command goes on"
    parameters = inspect.signature(VERBS[verb].function).parameters
    if out is None or not (expand(out) / CHECKPOINTS / LAST).is_dir():
        return "nothing had been saved yet"
    if "resume" not in parameters:
        return f"what was done so far is in {out}"
    return f"saved; go on with: textgym {verb} --out {shlex.quote(str(out))} --resume"


def _long_help(verb: str) -> str:
    """The first paragraph of the function's docstring."""
    text = inspect.getdoc(VERBS[verb].function) or VERBS[verb].help
    return text.split("\n\n")[0].replace("`", "")


def _load(target: str) -> Any:
    from textgym.registry import import_reference

    return import_reference(target)


def _load_plugins() -> None:
    """Import what other packages register under the entry-point group `textgym.plugins`."""
    for plugin in metadata.entry_points(group=PLUGIN_GROUP):
        try:
            plugin.load()
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            _say(f"warning: plugin {plugin.name!r} ({plugin.value}) failed: {reason:.200}")


def _one_line(error: Exception, arguments: Sequence[str]) -> tuple[str, int]:
    """What to tell the user about an error, and the exit code."""
    if isinstance(error, TextGymError):
        return str(error), error.exit_code
    if is_out_of_memory(error):
        return "out of memory: take smaller sizes, or fewer rows at a time", 2
    if hasattr(error, "format_message"):  # a usage error of Typer's
        verb = next((a for a in arguments if not a.startswith("-")), None)
        known = verb if verb in VERBS or verb in LISTINGS else None
        agent = f"--agent {chosen_agent(arguments)}" if known == "train" else None
        help_of = " ".join(["textgym", *filter(None, [known, agent]), "--help"])
        return f"{' '.join(error.format_message().split())} (see {help_of})", 2
    if isinstance(error, OSError) and error.errno in _DISK:
        return f"cannot write: {error.strerror or error}", CANNOT_WRITE
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return f"internal error, {reason:.300} (set TEXTGYM_TRACEBACK=1 to see where)", INTERNAL


def _say(text: str) -> None:
    """One line, whatever control characters a value or a file's name brings along."""
    sys.stdout.flush()
    line = re.sub("[\t\n]", lambda match: repr(match[0])[1:-1], visible(text))
    line = line if len(line) <= 1000 else f"{line[:999]}…"
    print(f"textgym: {line}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM is taken as Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _short_warnings() -> Iterator[None]:
    """Warnings of the libraries, on one line each."""
    before = warnings.showwarning

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        _say(f"warning: {' '.join(str(message).split()):.300}")

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


if __name__ == "__main__":
    sys.exit(main())
