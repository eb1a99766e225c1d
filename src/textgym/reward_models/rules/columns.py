"""What rules take from the dataset: a column by name, checked row by row.

Every error is one line that names the reward model, the prompt of the row and what to do.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from textgym.errors import RewardError
from textgym.reward_answers import Asked

T = TypeVar("T")

PROMPTS = "prompts"  # as a column's name: the prompts themselves


def refusal(name: str, prompts: Sequence[Any], row: int, what: str) -> RewardError:
    """The error for a row. :param what: goes on the sentence "reward model 'bleu' ..."."""
    return Asked(name, [str(prompt) for prompt in prompts], None).error(what, row)


def check_texts(name: str, prompts: Sequence[Any], completions: Sequence[Any]) -> None:
    """Raises unless every completion is a text.

    :raises RewardError: naming the first row that is none.
    """
    for row, text in enumerate(completions):
        if not isinstance(text, str):
            kind = type(text).__name__
            what = f"got a completion of type {kind}, expected a text: pass strings"
            raise refusal(name, prompts, row, what)


def texts_to_score(
    name: str, prompts: Sequence[str], completions: Sequence[str], include_prompt: bool
) -> list[str]:
    """The completions, each behind its prompt where that is part of the text.

    :raises RewardError: naming the first row that is no text.
    """
    check_texts(name, prompts, completions)
    if not include_prompt:
        return list(completions)
    return [prompt + text for prompt, text in zip(prompts, completions, strict=True)]


def column_values(
    name: str,
    prompts: Sequence[Any],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    column: str,
    read: Callable[[Any], T],
    *,
    fixed: T | None,
    instead: str,
) -> list[T]:
    """A value for each completion: the one given for all rows, or a column's, every one read.

    :param name: the reward model's.
    :param fixed: what is given for all rows, or None.
    :param column: the column's name; "prompts" means the prompts.
    :param read: a value as the reward model takes it. Raises ValueError, with what was expected and
        what to do, for one that is wrong.
    :param instead: the keyword that gives one value for all rows, for the error.
    :raises RewardError: if the column is missing or of another length, or a value is wrong, naming
        the first such row.
    """
    if fixed is not None:
        return [fixed] * len(completions)
    if column == PROMPTS:
        values: Sequence[Any] = prompts
    elif column in columns:
        values = columns[column]
    else:
        present = ", ".join(map(repr, sorted(columns))) or "none"
        what = (
            f"needs the prompt column {column!r}, got columns: {present}: add it to the prompts, "
            f"say which it is with column=..., or pass {instead}=..."
        )
        raise refusal(name, prompts, 0, what)
    if len(values) != len(completions):
        what = (
            f"got {len(values)} values in the column {column!r} for {len(completions)} "
            "completions: one each"
        )
        raise refusal(name, prompts, 0, what)
    found = []
    for row, value in enumerate(values):
        try:
            found.append(read(value))
        except ValueError as error:
            what = f"got {value!r:.60} in the column {column!r}: {error}"
            raise refusal(name, prompts, row, what) from None
    return found


def needed(column: str, fixed: object) -> tuple[str, ...]:
    """The columns that a reward model cannot do without; see `textgym.rewards.check_arguments`.

    :param fixed: what is given for all rows, or None.
    """
    return () if fixed is not None or column == PROMPTS else (column,)


def texts_of(value: Any) -> list[str]:
    """One text or several, as a list.

    :raises ValueError: for None, another type, no text, or a blank one.
    """
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("expected a text or a list of texts: fill it in, or drop the row")
    if not texts or not all(text.strip() for text in texts):
        raise ValueError("expected a text that is not blank: fill it in, or drop the row")
    return list(texts)
