"""The reward contract, and the seam at which every answer of a reward model is checked.

A reward model is any callable

    reward(prompts, completions, **columns) -> Sequence[float | None] | RewardOutput

that takes a batch of texts and gives one number per text: a function, or an object with `__call__`
and a `name`. `call_reward` is the only way in which textgym calls one: what it returns is float64,
finite and of the right length, or a `RewardError` says whose answer was wrong, for which prompt,
and when.
"""

import inspect
import math
import numbers
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textgym.errors import InputError, RewardError

Span = tuple[int, int, float]
Reward = Callable[..., Any]


@dataclass(frozen=True)
class RewardOutput:
    """What a reward model may return instead of plain numbers.

    :param scores: one total per text, length b. None says "does not apply to this text"; it has a
        meaning only inside a weighted sum, a total of None is an error.
    :param components: named parts of the total, each of length b, for the logs. NaN or None in one
        says that the part does not apply to that text.
    :param spans: per text, `(start, end, amount)` in characters of the completion, for dense
        rewards. They split the total; what they leave of it goes to the last token.
    """

    scores: Sequence[float | None]
    components: Mapping[str, Sequence[float]] = field(default_factory=dict)
    spans: Sequence[Sequence[Span]] | None = None


def reward_name(reward: object) -> str:
    """How a reward model is called in logs and errors: its `name`, else its `__name__`."""
    for attribute in ("name", "__name__"):
        name = getattr(reward, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(reward).__name__


def call_reward(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    *,
    step: int | None = None,
    timeout: float | None = None,
) -> RewardOutput:
    """Ask a reward model about b texts and check its answer.

    A reward that takes no `**columns` gets only the columns that its signature names.

    :param columns: further columns of the prompts, each of length b.
    :param step: the environment step, for the error.
    :param timeout: seconds. The model then runs in a daemon thread. Python cannot stop a thread:
        one that hangs goes on until the process ends, so the error is meant to be fatal.
    :return: `scores` float64 [b], `components` float64 [b] each (NaN: does not apply), and `spans`.
    :raises RewardError: if the model raises, hangs, or returns what the contract forbids.
    """
    where = _Where(reward_name(reward), prompts, step)
    arguments, keywords = _arguments(reward, prompts, completions, columns)

    def ask() -> object:
        return reward(*arguments, **keywords)

    try:
        answer = ask() if timeout is None else _ask_in_time(ask, timeout, where)
    except RewardError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise where.error(f"raised {type(error).__name__}: {text:.300}") from error
    output = answer if isinstance(answer, RewardOutput) else RewardOutput(answer)  # type: ignore[arg-type]
    scores = _numbers(output.scores, len(completions), where, "", is_none_allowed=False)
    components = _components(output.components, len(completions), where)
    return RewardOutput(scores, components, _spans(output.spans, completions, where))  # type: ignore[arg-type]


@dataclass(frozen=True)
class _Where:
    """The reward model, the texts and the step that an error has to name."""

    name: str
    prompts: Sequence[str]
    step: int | None

    def error(self, what: str, row: int | None = None) -> RewardError:
        if row is None:
            row = 0
        prompt = f" (prompt {shorten(self.prompts[row])!r})" if self.prompts else ""
        step = "" if self.step is None else f" at step {self.step}"
        return RewardError(f"reward model {self.name!r} {what}{prompt}{step}")


def shorten(text: str, limit: int = 60) -> str:
    """A text as one short line for an error."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def _arguments(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
) -> tuple[list[Any], dict[str, Any]]:
    """By keyword where the signature has the contract's names (as TRL calls), else by position."""
    everything = {"prompts": prompts, "completions": completions, **columns}
    named, takes_all = _keywords(reward)
    if "completions" in named:
        return [], {k: v for k, v in everything.items() if takes_all or k in named}
    by_name = {k: v for k, v in columns.items() if takes_all or k in named}
    return [prompts, completions], by_name


def _keywords(reward: Reward) -> tuple[Sequence[str], bool]:
    """The names that may be given by keyword, and whether `**columns` takes all others."""
    function = reward if isinstance(reward, types.FunctionType) else type(reward).__call__
    if isinstance(function, types.FunctionType) and not hasattr(function, "__wrapped__"):
        code = function.__code__  # the usual cases: reading a signature costs 25 µs a batch
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        return names[code.co_posonlyargcount :], bool(code.co_flags & inspect.CO_VARKEYWORDS)
    try:
        parameters = inspect.signature(reward).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return [], True
    is_plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = tuple(p.name for p in parameters if p.kind in is_plain)
    return names, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _ask_in_time(ask: Callable[[], object], timeout: float, where: _Where) -> object:
    answer: list[object] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name=f"reward {where.name}", daemon=True)
    thread.start()
    thread.join(timeout)
    if errors:
        raise errors[0]
    if not answer:
        raise where.error(f"gave no answer within {timeout:g} s (reward_timeout)")
    return answer[0]


def _numbers(
    values: object, length: int, where: _Where, label: str, *, is_none_allowed: bool
) -> np.ndarray:
    """A float64 array [length] out of a list, tuple, array or tensor of real numbers."""
    rows = _as_list(values, where, label)
    if len(rows) != length:
        raise where.error(f"returned {len(rows)} {label}scores for {length} texts")
    if all(type(row) is float for row in rows):  # the usual case, at once
        checked = np.array(rows, dtype=np.float64)
    else:
        checked = np.array(
            [_number(row, i, where, label, is_none_allowed) for i, row in enumerate(rows)],
            dtype=np.float64,
        )
    is_bad = ~np.isfinite(checked)
    if is_none_allowed:
        is_bad = np.isinf(checked)
    if is_bad.any():
        row = int(is_bad.argmax())
        raise where.error(f"returned a {label}score that is not finite ({checked[row]})", row)
    return checked


def _as_list(values: object, where: _Where, label: str) -> list[Any]:
    if hasattr(values, "tolist") and hasattr(values, "ndim"):  # an array, tensor or series
        if values.ndim != 1:
            shape = tuple(getattr(values, "shape", ()))
            raise where.error(f"returned {label}scores of shape {shape}, expected one dimension")
        return list(values.tolist())
    if isinstance(values, list | tuple):
        return list(values)
    if isinstance(values, Sequence) and not isinstance(
        values, str | bytes | bytearray | memoryview
    ):
        return list(values)
    raise where.error(
        f"returned {label or 'a '}{type(values).__name__}, expected a list with one float per text"
    )


def _number(value: Any, row: int, where: _Where, label: str, is_none_allowed: bool) -> float:
    if value is None:
        if is_none_allowed:
            return math.nan
        raise where.error(
            "returned None as the total of a text: None ('does not apply') counts only inside a "
            "weighted sum",
            row,
        )
    if isinstance(value, bool | np.bool_):
        raise where.error(f"returned {label}score {value!r}: write float(...) around it", row)
    if not isinstance(value, numbers.Real) and getattr(value, "ndim", None) == 0:
        value = value.item()  # a 0-dimensional array or tensor
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise where.error(
            f"returned a {label}score of type {type(value).__name__}, expected a float", row
        )
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _components(components: object, length: int, where: _Where) -> dict[str, np.ndarray]:
    if not isinstance(components, Mapping):
        raise where.error(f"returned components of type {type(components).__name__}, not a mapping")
    for name in components:
        if not isinstance(name, str):
            raise where.error(f"returned a component named {name!r}, expected a string")
    return {
        name: _numbers(values, length, where, f"{name} ", is_none_allowed=True)
        for name, values in components.items()
    }


def _spans(spans: object, completions: Sequence[str], where: _Where) -> list[list[Span]] | None:
    if spans is None:
        return None
    if not isinstance(spans, list | tuple) or len(spans) != len(completions):
        raise where.error(f"must return spans as a list of {len(completions)} lists, one per text")
    return [
        [_span(span, len(text), row, where) for span in row_spans]
        for row, (row_spans, text) in enumerate(zip(spans, completions, strict=True))
    ]


def _span(span: Any, length: int, row: int, where: _Where) -> Span:
    try:
        start, end, amount = span
        start, end, amount = int(start), int(end), float(amount)
    except (TypeError, ValueError):
        raise where.error(
            f"returned the span {span!r}, expected (start, end, amount)", row
        ) from None
    if not 0 <= start <= end <= length or not math.isfinite(amount):
        raise where.error(
            f"returned the span {span!r} for a completion of {length} characters: expected "
            "0 <= start <= end <= length and a finite amount",
            row,
        )
    return start, end, amount


def check_reward(reward: object) -> Reward:
    """The reward itself, if it can be called at all.

    :raises InputError: if it is a name (the front door resolves those) or no callable.
    """
    if not callable(reward) or isinstance(reward, type):
        kind = f"the class {reward.__name__}" if isinstance(reward, type) else repr(reward)
        raise InputError(
            f"reward must be a function or an object with __call__, got {kind:.80}: see "
            "textgym.rewards for the contract"
        )
    return reward
