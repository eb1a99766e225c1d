"""Clean a corpus by named rules, and count what each rule changed or removed.

    texts = Cleaner().clean(read_texts("corpus.txt"))
    ...                       # iterate: texts are cleaned one at a time, as they pass
    print(texts.report)

A rule of one's own (word segmentation, stop words) goes into the list of rules.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from textgym.errors import InputError
from textgym.near_copies import text_key

TextFunction = Callable[[str], str | None]
NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]

_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"\s+")
_DIGEST_BYTES = 12  # a chance of 1e-11 that any two of a million texts share one


@dataclass(frozen=True)
class Rule:
    """One step of cleaning.

    :param name: stands in the report.
    :param start: called once a pass; gives the function that maps a text to the new text, or to
        None to remove it. What must be remembered (texts seen) lives in that function.
    """

    name: str
    start: Callable[[], TextFunction]


def rule(name: str, function: TextFunction) -> Rule:
    """A rule from a function that remembers nothing."""
    return Rule(name, lambda: function)


def unicode_rule(form: NormalForm = "NFC") -> Rule:
    """Unicode normalization: one code point sequence for what reads the same."""
    return rule(f"unicode {form}", lambda text: unicodedata.normalize(form, text))


def control_rule() -> Rule:
    """Removes control characters, byte order marks and half surrogate pairs; white space stays."""
    return rule("control characters", lambda text: _CONTROL.sub("", text))


def whitespace_rule(keep_lines: bool = False) -> Rule:
    """Makes each run of white space one space, and strips the ends.

    :param keep_lines: a run that holds a line break becomes a line break.
    """

    def one(match: re.Match[str]) -> str:
        return "\n" if keep_lines and "\n" in match[0] else " "

    return rule("white space", lambda text: _SPACES.sub(one, text).strip())


def min_length_rule(characters: int) -> Rule:
    """Removes texts shorter than `characters`."""
    return rule(f"under {characters}", lambda text: text if len(text) >= characters else None)


def max_length_rule(characters: int) -> Rule:
    """Removes texts longer than `characters`."""
    return rule(f"over {characters}", lambda text: text if len(text) <= characters else None)


def duplicate_rule() -> Rule:
    """Removes texts whose letters and digits have been seen; memory: a digest for each text."""

    def start() -> TextFunction:
        seen: set[bytes] = set()

        def first_only(text: str) -> str | None:
            data = (text_key(text) or text).encode("utf-8", "surrogatepass")
            digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
            if digest in seen:
                return None
            seen.add(digest)
            return text

        return first_only

    return Rule("duplicates", start)


def default_rules(
    *,
    normal_form: NormalForm = "NFC",
    min_characters: int = 1,
    max_characters: int = 10_000,
    keep_lines: bool = False,
) -> list[Rule]:
    """Control characters, Unicode, white space, length, duplicates: in this order.

    :raises InputError: `min_characters` is below 1 or over `max_characters`.
    """
    if not 1 <= min_characters <= max_characters:
        raise InputError(
            "expected 1 <= min_characters <= max_characters,"
            f" got {min_characters} and {max_characters}"
        )
    return [
        control_rule(),  # first: what it leaves side by side may combine
        unicode_rule(normal_form),
        whitespace_rule(keep_lines),
        min_length_rule(min_characters),
        max_length_rule(max_characters),
        duplicate_rule(),
    ]


@dataclass
class RuleCount:
    """How many texts one rule changed and how many it removed."""

    name: str
    changed: int = 0
    removed: int = 0


@dataclass
class CleaningReport:
    """What one pass did: `read` texts came, `kept` went on; `rules` in order of application."""

    read: int = 0
    kept: int = 0
    rules: list[RuleCount] = field(default_factory=list)

    def __str__(self) -> str:
        """A table for the terminal, one line a rule."""
        width = max(len(count.name) for count in [*self.rules, RuleCount("texts kept")])
        lines = [f"{'rule':<{width}}  {'changed':>10}  {'removed':>10}"]
        lines += [f"{c.name:<{width}}  {c.changed:>10,}  {c.removed:>10,}" for c in self.rules]
        lines.append(f"{'texts kept':<{width}}  {self.kept:>10,} of {self.read:,}")
        return "\n".join(lines)


class CleanedTexts:
    """The cleaned texts of an iterable, computed as they are asked for; may be iterated again.

    `report` describes the last pass, also while it runs.
    """

    def __init__(self, texts: Iterable[str], rules: Sequence[Rule]) -> None:
        self._texts = texts
        self._rules = tuple(rules)
        self._is_spent = False
        self.report = CleaningReport()

    def __iter__(self) -> Iterator[str]:
        """One pass.

        :raises InputError: a second pass over an iterator, or a rule that gives no text.
        """
        iterator = iter(self._texts)
        if self._is_spent and iterator is self._texts:
            raise InputError("these texts were an iterator and have been read; give a list or file")
        self._is_spent = True
        self.report = report = CleaningReport(rules=[RuleCount(r.name) for r in self._rules])
        functions = [one.start() for one in self._rules]
        return self._pass(iterator, functions, report)

    @staticmethod
    def _pass(
        texts: Iterator[str], functions: Sequence[TextFunction], report: CleaningReport
    ) -> Iterator[str]:
        for text in texts:
            report.read += 1
            cleaned = _apply(text, functions, report.rules)
            if cleaned is not None:
                report.kept += 1
                yield cleaned


class Cleaner:
    """A list of rules that are applied to every text, first to last.

    :param rules: `default_rules()` if None.
    """

    def __init__(self, rules: Sequence[Rule] | None = None) -> None:
        self.rules = tuple(default_rules() if rules is None else rules)

    def clean(self, texts: Iterable[str]) -> CleanedTexts:
        """The texts that are left, each cleaned when it is asked for."""
        return CleanedTexts(texts, self.rules)


def _apply(text: str, functions: Sequence[TextFunction], counts: list[RuleCount]) -> str | None:
    for function, count in zip(functions, counts, strict=True):
        new = function(text)
        if new is None:
            count.removed += 1
            return None
        if not isinstance(new, str):
            kind = type(new).__name__
            raise InputError(f"rule {count.name!r}: expected a text or None, got {kind}")
        count.changed += new != text
        text = new
    return text
