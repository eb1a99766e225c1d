"""Going on with a run: settings that are not given again are as they were, others compared."""

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from textgym.agents.runs.directory import changes_since
from textgym.agents.runs.settings import is_json, read_config, to_json
from textgym.chat_templates import with_chat
from textgym.envs.texts.corpus import are_files
from textgym.errors import InputError
from textgym.paths import expand
from textgym.run_files import CONFIG

P = ParamSpec("P")
R = TypeVar("R")

# What is not a setting of the run itself, or may be another one each time.
_EVERY_TIME = frozenset(
    {"out", "resume", "force_resume", "verb", "not_saved", "progress_bar", "report", "callback"}
    | {"device"}
)
_IN_THE_CHECKPOINT = frozenset({"policy", "reference"})


def resumable(
    *, may_change: Collection[str], when_forced: Collection[str] = ()
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for a verb with the keywords `out` and `resume`.

    With `resume=True`, arguments that are not given are read from the run's `config.yaml`, and
    those that are given again must be as they were.

    :param may_change: names that may differ from the run's, such as the budget.
    :param when_forced: those that may with `force_resume`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def verb(*args: P.args, **keywords: P.kwargs) -> R:
            given = dict(signature.bind_partial(*args, **keywords).arguments)
            for parameter in signature.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    given |= given.pop(parameter.name, {})
            if not (given.get("resume") or given.get("force_resume")):
                return function(*args, **keywords)
            if "out" not in given:
                default = signature.parameters["out"].default
                if default is inspect.Parameter.empty or default is None:
                    raise InputError("resume needs out: the directory of the run to go on with")
                given["out"] = default
            if "env_kwargs" in signature.parameters:
                given = _with_chat(given)
            known = _known_names(signature)
            settings: dict[str, Any] = resumed_settings(
                given["out"],
                given,
                verb=function.__name__,
                may_change=may_change,
                when_forced=when_forced,
            )
            settings["resume"] = True
            if not given.get("force_resume"):
                check_unchanged(given["out"])
            settings = {k: v for k, v in settings.items() if known is None or k in known}
            return function(**settings)  # type: ignore[call-arg]

        return verb

    return decorate


def _with_chat(given: dict[str, Any]) -> dict[str, Any]:
    """What was given, the chat flags among the task's fields, where the run has them.

    :raises InputError: as `with_chat`.
    """
    flags = [given.pop(name, None) for name in ("chat", "system")]
    if flags == [None, None]:
        return given
    fields = given.get("env_kwargs")
    if fields is None and (expand(given["out"]) / CONFIG).is_file():
        fields = read_config(given["out"]).get("env_kwargs")
    return {**given, "env_kwargs": with_chat(fields, *flags)}


def resumed_settings(
    out: str | Path,
    given: Mapping[str, Any],
    *,
    verb: str,
    may_change: Collection[str],
    when_forced: Collection[str] = (),
) -> dict[str, Any]:
    """The arguments to go on with: those of the run in `out`, and those given now.

    :param given: only what was given explicitly.
    :param verb: what made the run must be what goes on with it.
    :raises InputError: if there is no run, or a setting differs, naming it.
    """
    if not (expand(out) / CONFIG).is_file():
        raise InputError(f"{out}: holds no run to resume; start it without --resume")
    saved = read_config(out)
    made_by = saved.get("verb", verb)
    if made_by != verb:
        raise InputError(f"{out}: holds a run of {made_by!r}, not of {verb!r}")
    may_change = {*may_change, *(when_forced if given.get("force_resume") else ())}
    for name, value in given.items():
        if name in _EVERY_TIME or name in may_change or not is_json(to_json(value)):
            continue
        if isinstance(value, list | tuple) and not are_files(value):
            continue  # rows given in Python, which no file holds
        if name not in saved or to_json(value) != saved[name]:
            was = f"{name}={saved[name]!r}" if name in saved else f"no {name}"
            forced = ", or go on all the same with force_resume" if name in when_forced else ""
            raise InputError(
                f"{out}: the run has {was}, but {name}={to_json(value)!r} was given: leave it "
                f"out to go on as before, or choose another out{forced}"
            )
    for name in saved.get("not_saved") or ():
        if name not in given and name not in _IN_THE_CHECKPOINT:
            raise InputError(
                f"{out}: the run was made with an object as {name!r}, which its record does not "
                f"hold: pass {name}=... again, in Python"
            )
    kept = {k: v for k, v in saved.items() if k not in _EVERY_TIME}
    return {**kept, **given}


def check_unchanged(out: str | Path) -> None:
    """Refuses to go on with a run whose inputs, settings or versions are not as they were.

    :raises InputError: with each difference.
    """
    changes = changes_since(out)
    if changes:
        raise InputError(
            f"{out}: not as the run was: {'; '.join(changes)}; put it back, or go on all the same "
            "with --force-resume"
        )


def _known_names(signature: inspect.Signature) -> set[str] | None:
    """Names of the parameters; None if any keyword is taken."""
    parameters = signature.parameters.values()
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}
