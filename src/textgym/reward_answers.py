"""A reward model's answers and their check: finite numbers, one a text, or an error.

An error names the reward model, the prompt and the step.
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from textgym.errors import RewardError, RewardFailure

Span = tuple[int, int, float]

LARGEST_SCORE = 1e15  # the squares of larger ones, summed over a batch, overflow float32


@dataclass(frozen=True)
class RewardOutput:
    """What a reward model may return instead of plain numbers.

    :param scores: one total per text, length b. None says "does not apply to this text"; it has a
        meaning only inside a weighted sum, a total of None is an error.
    :param components: named parts of the total, each of length b, for the logs. NaN or None in one
        says that the part does not apply to that text.
    :param spans: per text, `(start, end, amount)` in characters of the completion, for dense
        rewards. They split the total; what they leave of it goes to the last token.
    :param extra: columns for the record, a value of any kind for each text: they reach the info of
        an episode's last step (`reward_extra`) and the run's `reward_extra.jsonl`.
    """

    scores: Sequence[float | None]
    components: Mapping[str, Sequence[float]] = field(default_factory=dict)
    spans: Sequence[Sequence[Span]] | None = None
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class Asked(NamedTuple):
    """The reward model, the texts and the step that an error has to name."""

    name: str
    prompts: Sequence[str]
    step: int | Sequence[int] | None

    def error(self, what: str, row: int = 0) -> RewardError:
        """An answer that the contract forbids."""
        return RewardError(self.sentence(what, row))

    def failure(self, what: str) -> RewardFailure:
        """No answer at all."""
        return RewardFailure(self.sentence(what, 0))

    def sentence(self, what: str, row: int) -> str:
        """One line."""
        prompt = f" (prompt {shorten(self.prompts[row])!r})" if self.prompts else ""
        return f"reward model {self.name!r} {what}{prompt}{self._when(row)}"

    def with_step(self, sentence: str) -> str:
        """A sentence of the reward model's own, with the step where it names none."""
        return sentence if " at step " in sentence else sentence + self._when(0)

    def _when(self, row: int) -> str:
        step = self.step
        if isinstance(step, Sequence):
            step = step[row] if step else None
        return "" if step is None else f" at step {step}"


def shorten(text: str, limit: int = 60) -> str:
    """A text as one short line for an error."""
    line = " ".join(text[: 4 * limit].split())
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def check_scores(
    values: object, length: int, where: Asked, label: str, *, is_none_allowed: bool
) -> np.ndarray:
    """A float64 array [length] out of a list, tuple, array or tensor of real numbers.

    :param label: what they are in an error, with a space behind it; "" for totals.
    :param is_none_allowed: None and NaN then say "does not apply", and become NaN.
    :raises RewardError: for anything else, numbers that are not finite, and totals too large.
    """
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


def _as_list(values: object, where: Asked, label: str) -> list[Any]:
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


def _number(value: Any, row: int, where: Asked, label: str, is_none_allowed: bool) -> float:
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


def check_components(components: object, length: int, where: Asked) -> dict[str, np.ndarray]:
    """Named parts of the totals, float64 [length] each; NaN: does not apply.

    :raises RewardError: for anything else.
    """
    if not isinstance(components, Mapping):
        raise where.error(f"returned components of type {type(components).__name__}, not a mapping")
    for name in components:
        if not isinstance(name, str):
            raise where.error(f"returned a component named {name!r}, expected a string")
    return {
        name: check_scores(values, length, where, f"{name} ", is_none_allowed=True)
        for name, values in components.items()
    }


def check_extra(extra: object, length: int, where: Asked) -> dict[str, list[Any]]:
    """Columns for the record, a value for each text; what JSON does not hold becomes a text.

    :raises RewardError: for anything but lists of this length by name.
    """
    if not isinstance(extra, Mapping) or not all(isinstance(name, str) for name in extra):
        raise where.error("returned extra columns that are no mapping from names to lists")
    columns = {name: _as_list(values, where, f"{name} ") for name, values in extra.items()}
    for name, values in columns.items():
        if len(values) != length:
            raise where.error(f"returned {len(values)} values of {name} for {length} texts")
    return {name: [to_json(value) for value in values] for name, values in columns.items()}


def to_json(value: Any) -> Any:
    """A value that JSON holds: itself, or what `str` says of it."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    return str(value)


def check_spans(spans: object, completions: Sequence[str], where: Asked) -> list[list[Span]] | None:
    """`(start, end, amount)` in characters, a list for each completion.

    :raises RewardError: for spans that do not lie in their text, or amounts that are not finite.
    """
    if spans is None:
        return None
    if not isinstance(spans, list | tuple) or len(spans) != len(completions):
        raise where.error(f"must return spans as a list of {len(completions)} lists, one per text")
    return [
        [_span(span, len(text), row, where) for span in row_spans]
        for row, (row_spans, text) in enumerate(zip(spans, completions, strict=True))
    ]


def _span(span: Any, length: int, row: int, where: Asked) -> Span:
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
