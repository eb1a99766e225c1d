"""The base of rewards that hold a completion against a reference, or several, of its row."""

from collections.abc import Sequence
from typing import Any, ClassVar

from textgym.errors import InputError
from textgym.reward_models.rules.columns import (
    check_texts,
    column_values,
    needed,
    texts_of,
)


class ReferenceReward:
    """Scores each completion against the references of its row, one row at a time.

    A subclass sets `name` and has `score`. Where a row has several references, each is right.

    :param reference: a text, or several, for all rows; None: each row brings its own.
    :param column: the column of the prompts that holds them: a text or a list of texts a row.
        "prompts": the prompt itself.
    :raises InputError: for a reference that is blank or no text.
    """

    name: ClassVar[str]

    def __init__(
        self, reference: str | Sequence[str] | None = None, *, column: str = "reference"
    ) -> None:
        self.column = column
        self._fixed = None if reference is None else self._given(reference)

    def _given(self, reference: str | Sequence[str]) -> list[str]:
        texts = reference if isinstance(reference, str) else list(reference)
        try:
            found = texts_of(texts)
            self.check(found)
        except ValueError as error:
            raise InputError(f"{self.name}: got the reference {reference!r:.60}: {error}") from None
        return found

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The column, where nothing is given for all rows."""
        return needed(self.column, self._fixed)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float per completion.

        :raises RewardError: naming the prompt, if a reference is missing or of the wrong type.
        """
        check_texts(self.name, prompts, completions)
        wanted = column_values(
            self.name,
            prompts,
            completions,
            columns,
            self.column,
            self._read,
            fixed=self._fixed,
            instead="reference",
        )
        return [self.score(text, texts) for text, texts in zip(completions, wanted, strict=True)]

    def _read(self, value: Any) -> list[str]:
        texts = texts_of(value)
        self.check(texts)
        return texts

    def check(self, references: Sequence[str]) -> None:
        """Raises ValueError for references that this reward model can do nothing with."""

    def score(self, completion: str, references: Sequence[str]) -> float:
        """The score of one completion."""
        raise NotImplementedError
