"""Steps that remove texts by language and length."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from textgym.envs.texts.preparation.rows import Row, StepCount
from textgym.envs.texts.preparation.step import Step, TextFunction, TextStep
from textgym.errors import InputError, unknown_name
from textgym.extras import import_extra
from textgym.text_metrics.words import count_words


@dataclass(frozen=True)
class Language(Step):
    """Keeps texts of some languages, as py3langid (Lui & Baldwin 2012, "langid.py") sees them.

    :param keep: ISO 639-1 codes, joined by "+": "en", "en+zh".
    :param confidence: least probability of the language, 0 to 1; texts of a few words have little.
    """

    key: ClassVar[str] = "language"
    keep: str
    confidence: float = 0.0

    def __post_init__(self) -> None:
        self._require("confidence", 0, 1)
        if not isinstance(self.keep, str) or not all(self.keep.split("+")):
            raise InputError(f"language: keep must be codes like 'en+zh', got {self.keep!r:.60}")

    @property
    def name(self) -> str:
        """In the report."""
        return f"language {self.keep}"

    def apply(self, rows: Iterator[Row], count: StepCount) -> Iterator[Row]:
        """See `Step.apply`."""
        langid = import_extra("py3langid.langid", extra="prepare", what="the step 'language'")
        identifier = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
        kept = self.keep.split("+")
        for code in kept:
            if code not in identifier.labels:
                raise unknown_name("language", code, identifier.labels)
        for row in rows:
            found, probability = identifier.classify(row.text)
            if found not in kept:
                count.remove(row, str(found))
            elif probability < self.confidence:
                count.remove(row, f"{found}, unsure")
            else:
                yield row


@dataclass(frozen=True)
class Length(TextStep):
    """Keeps texts of some lengths.

    :param min_characters: shorter texts go (1: empty ones).
    :param max_characters: longer texts go; None for no limit.
    :param min_words: texts of fewer words go (`textgym.text_metrics.words`).
    :param max_words: texts of more words go; None for no limit.
    """

    key: ClassVar[str] = "length"
    min_characters: int = 1
    max_characters: int | None = None
    min_words: int = 0
    max_words: int | None = None

    def __post_init__(self) -> None:
        for low, high in (("min_characters", "max_characters"), ("min_words", "max_words")):
            self._require(low, 0, 10**12, is_whole=True)
            self._require(high, 1, 10**12, is_whole=True)
            least, most = getattr(self, low), getattr(self, high)
            if most is not None and least > most:
                raise InputError(f"length: expected {low} <= {high}, got {least} and {most}")

    @property
    def name(self) -> str:
        """In the report."""
        most = "" if self.max_characters is None else f" to {self.max_characters}"
        words = "" if self.max_words is None else f" to {self.max_words}"
        text = f"length {self.min_characters}{most}"
        return f"{text}, {self.min_words}{words} words" if self._counts_words() else text

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        least, most = self.min_characters, self.max_characters

        def fitting(text: str) -> str | None:
            if len(text) < least or (most is not None and len(text) > most):
                return None
            if self._counts_words():
                words = count_words(text)
                if words < self.min_words or (self.max_words and words > self.max_words):
                    return None
            return text

        return fitting

    def _counts_words(self) -> bool:
        return self.min_words > 0 or self.max_words is not None
