"""Right or wrong: the answer itself, or the number that a text ends with."""

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.rules.columns import check_texts, column_values, needed
from textgym.reward_models.rules.reference import ReferenceReward
from textgym.text_metrics.words import normal_form

_ENDS = " \t\n\r.,;:!?\"'`。，；：！？、“”‘’「」『』"
_ASCII = {0xFF0C: ",", 0xFF0E: ".", 0xFF0B: "+", 0xFF0D: "-", 0x2212: "-", 0xFF0F: "/"}
_ASCII |= {0xFF10 + digit: str(digit) for digit in range(10)}  # full-width digits
_NUMBER = re.compile(
    r"""(?:(?<![\w).])[-+])?                     # a sign, where it is no minus between numbers
    (?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)?         # 1,234 or 1234
    (?:(?<=\d)\.(?=\d)|(?<![\w.])\.(?=\d))?      # a point with a digit behind it
    (?<=[\d.])(?:(?<=\.)\d+)?(?:(?<=\d)[eE][-+]?\d{1,4}(?!\w))?""",
    re.VERBOSE | re.ASCII,
)
_FRACTION = re.compile(r"\s*/\s*(\d+)(?![\d/.])", re.ASCII)
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\{\s*(-?[\d.]+)\s*\}\{\s*(\d+)\s*\}")


class ExactMatch(ReferenceReward):
    """1 if the completion is the answer, else 0.

    Case, white space in a row, and quotes and sentence marks at the two ends do not count, nor does
    how Unicode spells a letter; everything else does ("-5" is not "5").

    :param answer: one for all rows, or several of which each is right; None: as `column` says.
    :param column: the column that holds the answer, a text or a list of texts.
    :param strict: only spaces at the ends and Unicode's spelling do not count.
    :raises InputError: for an answer that is blank or no text.
    """

    name = "exact_match"

    def __init__(
        self,
        answer: str | Sequence[str] | None = None,
        *,
        column: str = "answer",
        strict: bool = False,
    ) -> None:
        self.strict = strict
        super().__init__(answer, column=column)

    def score(self, completion: str, references: Sequence[str]) -> float:
        """1 or 0."""
        given = self._form(completion)
        return float(any(given == self._form(answer) for answer in references))

    def _form(self, text: str) -> str:
        if self.strict:
            return unicodedata.normalize("NFC", text).strip()
        spaced = " ".join(normal_form(text).split())
        return spaced.strip(_ENDS) or spaced


class NumericAnswer:
    """1 if the completion's number is the answer's, else 0.

    A text's number is what stands after its last "####" (as in GSM8K), else in its last
    `\\boxed{}`, else the last number in it: 1,234.5, -3, 2e6, 3/4, full-width digits. A percent or
    currency sign is no part of it. A text without a number gets 0.

    :param answer: one for all rows; None: as `column` says.
    :param column: the column that holds it: a number, or a text whose number it is.
    :param tolerance: relative, and absolute about 0. Numbers are compared as floats, which tell
        whole ones apart up to 2**53.
    :raises InputError: for an answer without a number, or a tolerance that is negative or not
        finite.
    """

    name = "numeric_answer"

    def __init__(
        self,
        answer: float | str | None = None,
        *,
        column: str = "answer",
        tolerance: float = 1e-9,
    ) -> None:
        if not 0 <= tolerance < math.inf:
            raise InputError(f"tolerance must be 0 or above and finite, got {tolerance!r}")
        self.column, self.tolerance = column, tolerance
        try:
            self._fixed = None if answer is None else _answer(answer)
        except ValueError as error:
            raise InputError(f"numeric_answer: got the answer {answer!r:.60}: {error}") from None

    @property
    def required_columns(self) -> tuple[str, ...]:
        """The column, where nothing is given for all rows."""
        return needed(self.column, self._fixed)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: 1 or 0 per completion.

        :raises RewardError: naming the prompt, if an answer is missing or has no number.
        """
        check_texts(self.name, prompts, completions)
        wanted = column_values(
            self.name,
            prompts,
            completions,
            columns,
            self.column,
            _answer,
            fixed=self._fixed,
            instead="answer",
        )
        return [
            float(self._is_equal(number_in(text), answer))
            for text, answer in zip(completions, wanted, strict=True)
        ]

    def _is_equal(self, given: float | None, answer: float) -> bool:
        tolerance = self.tolerance
        return given is not None and math.isclose(
            given, answer, rel_tol=tolerance, abs_tol=tolerance
        )


def number_in(text: str) -> float | None:
    """The number that a text gives as its answer, see `NumericAnswer`; None without one."""
    plain = text.translate(_ASCII)
    _, mark, after = plain.rpartition("####")
    if mark:
        return next(iter(_numbers(after)), None)
    boxed = _BOXED.findall(plain)
    if boxed:
        return next(iter(_numbers(boxed[-1])), None)
    return next(reversed(_numbers(plain)), None)


def _numbers(text: str) -> list[float]:
    text = _LATEX_FRACTION.sub(r" \1/\2 ", text).replace("{,}", ",")
    found, end = [], 0
    for match in _NUMBER.finditer(text):
        if not match[0] or match.start() < end:
            continue
        value, end = float(match[0].replace(",", "")), match.end()
        fraction = _FRACTION.match(text, end)
        if fraction is not None and int(fraction[1][:20]) > 0:
            value, end = value / float(fraction[1]), fraction.end()
        if math.isfinite(value):
            found.append(value)
    return found


def _answer(value: Any) -> float:
    number = number_in(value) if isinstance(value, str) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise ValueError("expected a number, or a text with one: fill it in, or drop the row")
    if not math.isfinite(number):
        raise ValueError("expected a finite number: fill it in, or drop the row")
    return float(number)
