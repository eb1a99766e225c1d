"""Steps that rewrite characters: mojibake, normal forms, Chinese variants, white space."""

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Literal

from textgym.envs.texts.preparation.step import TextFunction, TextStep
from textgym.extras import import_extra

NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]
FORMS = ("NFC", "NFD", "NFKC", "NFKD")
VARIANTS = ("simplified", "traditional", "taiwan", "hongkong")
_CONFIGS = {"simplified": "t2s", "traditional": "s2t", "taiwan": "s2twp", "hongkong": "s2hk"}
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"\s+")
_HALF_PAIRS = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Repair(TextStep):
    """Undoes mojibake (`ftfy.fix_encoding`): texts that were decoded with the wrong charset.

    What reads well already is left alone; nothing else that ftfy can do is done here.
    """

    key: ClassVar[str] = "repair"

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        fix = import_extra("ftfy", extra="prepare", what="the step 'repair'").fix_encoding
        return lambda text: text if text.isascii() else str(fix(text))


@dataclass(frozen=True)
class Normalize(TextStep):
    """Unicode normalization: one sequence of code points for what reads the same.

    :param form: "NFC", or "NFKC", which also makes full-width letters and ligatures plain.
    """

    key: ClassVar[str] = "normalize"
    form: NormalForm = "NFC"

    def __post_init__(self) -> None:
        self._require_one_of("form", FORMS)

    @property
    def name(self) -> str:
        """In the report."""
        return f"unicode {self.form}"

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        return lambda text: unicodedata.normalize(self.form, text)


@dataclass(frozen=True)
class ChineseVariant(TextStep):
    """Converts between traditional and simplified Chinese, word by word (OpenCC).

    :param to: "simplified", "traditional", "taiwan" (with Taiwan's words) or "hongkong".
    """

    key: ClassVar[str] = "chinese"
    to: str = "simplified"

    def __post_init__(self) -> None:
        self._require_one_of("to", VARIANTS)

    @property
    def name(self) -> str:
        """In the report."""
        return f"chinese {self.to}"

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        opencc = import_extra("opencc", extra="prepare", what="the step 'chinese'")
        convert = opencc.OpenCC(_CONFIGS[self.to]).convert

        def converted(text: str) -> str:
            if text.isascii() or _HALF_PAIRS.search(text):
                return text
            return str(convert(text))

        return converted


@dataclass(frozen=True)
class ControlCharacters(TextStep):
    """Removes control characters, byte order marks and half surrogate pairs; white space stays."""

    key: ClassVar[str] = "control_characters"

    def start(self) -> TextFunction:
        """See `TextStep.start`."""
        return lambda text: _CONTROL.sub("", text)


@dataclass(frozen=True)
class Whitespace(TextStep):
    """Makes each run of white space one space, and strips the ends.

    :param keep_lines: a run that holds a line break becomes a line break.
    """

    key: ClassVar[str] = "white_space"
    keep_lines: bool = False

    def start(self) -> TextFunction:
        """See `TextStep.start`."""

        def one(match: re.Match[str]) -> str:
            return "\n" if self.keep_lines and "\n" in match[0] else " "

        return lambda text: _SPACES.sub(one, text).strip()
