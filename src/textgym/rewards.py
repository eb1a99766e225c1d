"""The reward contract, and the seam at which every answer of a reward model is checked.

A reward model is any callable

    reward(prompts, completions, **columns) -> Sequence[float | None] | RewardOutput

that takes a batch of texts and gives one number per text: a function, or an object with `__call__`
and a `name`. `call_reward` is the only way in which textgym calls one: what it returns is float64,
finite and of the right length, or a `RewardError` says whose answer was wrong, for which prompt,
and when.
"""

import copy
import math
import numbers
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from textgym.async_rewards import AsyncReward, is_async
from textgym.errors import InputError, RewardError, RewardFailure
from textgym.reward_arguments import (
    TEXTS,
    TOKEN_IDS,
    Signature,
    match_arguments,
    meanings,
    signature_of,
)

Span = tuple[int, int, float]
Reward = Callable[..., Any]

LARGEST_SCORE = 1e15  # the squares of larger ones, summed over a batch, overflow float32
_ATOMS = (str, int, float, bool, bytes, type(None))


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
    completion_ids: Sequence[Sequence[int]] | None = None,
    step: int | Sequence[int] | None = None,
    timeout: float | None = None,
    retries: int = 0,
    signature: Signature | None = None,
) -> RewardOutput:
    """Ask a reward model about b texts and check its answer.

    Its arguments are matched by name (see `reward_arguments`), and are copies: it may use them up.
    A working directory, or torch's gradients, that it leaves changed are set back, with a warning.

    :param columns: further columns of the prompts, each of length b.
    :param completion_ids: the token ids that the player wrote, each a list; for a reward model that
        names them, unless a column has that name.
    :param step: the environment step, for the error; or the step of each text.
    :param timeout: seconds. The model then runs in a daemon thread. Python cannot stop a thread:
        one that hangs goes on until the process ends, so the error is meant to be fatal.
    :param retries: how often it is asked again after it raised or hung; a warning says so.
    :param signature: the model's `signature_of`, from who asks often.
    :return: `scores` float64 [b], `components` float64 [b] each (NaN: does not apply), and `spans`.
    :raises RewardFailure: if the model raises (whatever it is, but for an interrupt) or hangs.
    :raises RewardError: if it returns what the contract forbids, or asks for what nobody supplies.
    """
    where = _Where(reward_name(reward), prompts, step)
    signature = signature_of(reward) if signature is None else signature

    def ask() -> object:
        supplied: dict[str, list[Any]] = {
            "prompts": list(prompts),
            "completions": list(completions),
        }
        if completion_ids is not None and TOKEN_IDS in signature.names:
            supplied[TOKEN_IDS] = [list(ids) for ids in completion_ids]
        for name, values in columns.items():
            supplied[name] = [fresh(value) for value in values]
        try:
            arguments, keywords = match_arguments(signature, supplied)
        except InputError as error:
            raise where.error(str(error)) from None
        return reward(*arguments, **keywords)

    for attempt in range(retries + 1):
        try:
            answer = _ask_once(ask, timeout, where)
            break
        except RewardFailure as error:
            if attempt == retries:
                raise
            warnings.warn(f"{error}: asked again ({attempt + 1} of {retries})", stacklevel=2)
    output = answer if isinstance(answer, RewardOutput) else RewardOutput(answer)  # type: ignore[arg-type]
    scores = _numbers(output.scores, len(completions), where, "", is_none_allowed=False)
    components = _components(output.components, len(completions), where)
    return RewardOutput(scores, components, _spans(output.spans, completions, where))  # type: ignore[arg-type]


def check_arguments(reward: Reward, columns: Iterable[str]) -> None:
    """Raises unless everything that a reward model asks for is there, before it is first called.

    :param columns: names of the prompts' columns.
    :raises InputError: naming the reward model and what it asks for.
    """
    try:
        meanings(signature_of(reward), {*TEXTS, TOKEN_IDS, *columns})
    except InputError as error:
        raise InputError(f"reward model {reward_name(reward)!r} {error}") from None


def fresh(value: Any) -> Any:
    """A copy of a value that its receiver may change; what cannot change is itself."""
    return value if type(value) in _ATOMS else copy.deepcopy(value)


class _Where(NamedTuple):
    """The reward model, the texts and the step that an error has to name."""

    name: str
    prompts: Sequence[str]
    step: int | Sequence[int] | None

    def error(self, what: str, row: int = 0) -> RewardError:
        return RewardError(self.sentence(what, row))

    def failure(self, what: str) -> RewardFailure:
        return RewardFailure(self.sentence(what, 0))

    def sentence(self, what: str, row: int) -> str:
        prompt = f" (prompt {shorten(self.prompts[row])!r})" if self.prompts else ""
        step = self.step[row] if isinstance(self.step, Sequence) else self.step
        when = "" if step is None else f" at step {step}"
        return f"reward model {self.name!r} {what}{prompt}{when}"


def shorten(text: str, limit: int = 60) -> str:
    """A text as one short line for an error."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def _ask_once(ask: Callable[[], object], timeout: float | None, where: _Where) -> object:
    """The answer; what is raised becomes a `RewardFailure`, but for an interrupt of the user's."""
    directory, has_gradients = _working_directory(), _has_gradients()
    try:
        return ask() if timeout is None else _ask_in_time(ask, timeout, where)
    except (RewardError, KeyboardInterrupt):
        raise
    except BaseException as error:  # SystemExit too: it would end the run without a word
        text = " ".join(str(error).split())
        raise where.failure(f"raised {type(error).__name__}: {text:.300}") from error
    finally:
        now = _working_directory()
        if directory is not None and now != directory:
            os.chdir(directory)
            warnings.warn(
                f"reward model {where.name!r} changed the working directory to {now}: it is set "
                f"back to {directory}",
                stacklevel=2,
            )
        if _has_gradients() != has_gradients:
            sys.modules["torch"].set_grad_enabled(has_gradients)
            warnings.warn(
                f"reward model {where.name!r} left torch's gradients switched "
                f"{'off' if has_gradients else 'on'}: they are set back; write `with "
                "torch.no_grad():` around what needs none",
                stacklevel=2,
            )


def _has_gradients() -> bool:
    """Whether torch, if a reward model can have it at all, keeps gradients."""
    torch = sys.modules.get("torch")
    return torch is None or bool(torch.is_grad_enabled())


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


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
    if errors and isinstance(errors[0], KeyboardInterrupt):  # no user interrupts this thread
        raise where.failure("raised KeyboardInterrupt") from errors[0]
    if errors:
        raise errors[0]
    if not answer:
        raise where.failure(f"gave no answer within {timeout:g} s (reward_timeout)")
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
    if len(rows) and np.abs(checked).max() <= LARGEST_SCORE:  # so is none of them NaN
        return checked
    is_bad = ~np.isfinite(checked)
    if is_none_allowed:
        is_bad = np.isinf(checked)
    if is_bad.any():
        row = int(is_bad.argmax())
        raise where.error(f"returned a {label}score that is not finite ({checked[row]})", row)
    is_huge = np.abs(checked) > LARGEST_SCORE
    if is_huge.any() and not is_none_allowed:
        row = int(is_huge.argmax())
        raise where.error(
            f"returned the score {checked[row]:g}, beyond ±{LARGEST_SCORE:g}: its square overflows "
            "in the single precision that is learned in; scale scores to about 1",
            row,
        )
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
    except (TypeError, ValueError, OverflowError):
        raise where.error(
            f"returned the span {span!r}, expected (start, end, amount)", row
        ) from None
    if not 0 <= start <= end <= length or not abs(amount) <= LARGEST_SCORE:
        raise where.error(
            f"returned the span {span!r} for a completion of {length} characters: expected "
            f"0 <= start <= end <= length and a finite amount up to ±{LARGEST_SCORE:g}",
            row,
        )
    return start, end, amount


def check_reward(reward: object) -> Reward:
    """The reward itself, if it can be called at all; an `async def` one is made one that waits.

    :raises InputError: if it is a name (the front door resolves those) or no callable.
    """
    if not callable(reward) or isinstance(reward, type):
        kind = f"the class {reward.__name__}" if isinstance(reward, type) else repr(reward)
        raise InputError(
            f"reward must be a function or an object with __call__, got {kind:.80}: see "
            "textgym.rewards for the contract"
        )
    _check_is_for_texts(reward)
    if is_async(reward):
        return AsyncReward(reward, reward_name(reward))
    return reward


def _check_is_for_texts(reward: object) -> None:
    """Raises for a torch module, such as a model of transformers', that takes tensors.

    :raises InputError: saying what to wrap it in.
    """
    called = getattr(type(reward).__call__, "__module__", None) or ""
    if not called.startswith("torch."):
        return
    forward = signature_of(reward.forward)  # type: ignore[attr-defined]
    if "completions" not in forward.names and len(forward.required) < 2:
        raise InputError(
            f"reward is a {type(reward).__name__}, which takes tensors: write a function "
            "(prompts, completions) -> floats that tokenizes the texts and asks it"
        )
