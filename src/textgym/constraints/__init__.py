r"""Which completions a task allows: a regular expression, a word list, a JSON schema, a grammar.

    constraints.regex(r"(yes|no)(, because .{5,80})?")
    constraints.words(["苹果", "手机"], separator="，")
    constraints.json_schema({"type": "object", "properties": {...}, "required": [...]})
    constraints.grammar('start: pair+\npair: "(" pair* ")"')

A constraint is plain data and says nothing of tokens. An environment compiles it with its
tokenizer into an `Automaton`; policies read their masks from that one, so that every algorithm
obeys without being told. NumPy only.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from textgym.constraints.byte_automaton import check_regex
from textgym.constraints.grammars import check_grammar
from textgym.constraints.json_patterns import schema_pattern
from textgym.errors import InputError, unknown_name

__all__ = [
    "AnyConstraint",
    "Constraint",
    "GrammarConstraint",
    "as_constraint",
    "grammar",
    "json_schema",
    "regex",
    "words",
]


@dataclass(frozen=True)
class Constraint:
    r"""The completions that a task allows.

    :param pattern: a regular expression; a completion is allowed where it matches from end to end.
    :param is_ascii: `\w`, `\d` and `\s` mean ASCII only.
    :param after: a text that ends every prompt and occurs in none before its end. With it the start
        of the completion is found in any row; without it only where the task's prompts are a list
        or a file, and none of them with a legal completion begins another.
    :raises InputError: for an expression that cannot be read or turned into a mask.
    """

    pattern: str
    is_ascii: bool = False
    after: str | None = None

    def __post_init__(self) -> None:
        _check_after(self.after)
        check_regex(self.pattern, is_ascii=bool(self.is_ascii))


@dataclass(frozen=True)
class GrammarConstraint:
    """The completions that a context-free grammar derives from `start`.

    :param grammar: in Lark's notation; see `grammars`.
    :param after: see `Constraint`.
    :raises InputError: for a grammar that cannot be read, naming line and column, or where the
        extra `grammar` is missing.
    """

    grammar: str
    after: str | None = None

    def __post_init__(self) -> None:
        _check_after(self.after)
        check_grammar(self.grammar)


AnyConstraint = Constraint | GrammarConstraint


def _check_after(after: object) -> None:
    if after is not None and (not isinstance(after, str) or not after):
        raise InputError(f"after must be a text that ends every prompt, got {after!r:.40}")


def regex(pattern: str, *, after: str | None = None) -> Constraint:
    """Completions that a regular expression of Python's `re` matches from end to end.

    Groups, sets, alternatives and repeats are understood; look-around, backreferences, word
    boundaries and `(?i)` are not. `.` is any character but a newline.

    :param after: see `Constraint`.
    :raises InputError: for an expression that cannot be read or turned into a mask.
    """
    return Constraint(pattern, after=after)


def words(
    words: Sequence[str], *, separator: str | None = None, after: str | None = None
) -> Constraint:
    """Completions that are one of some words; with a separator, one or more of them joined by it.

    :param words: any texts.
    :param separator: what stands between two words.
    :param after: see `Constraint`.
    :raises InputError: without words, or for an empty one.
    """
    is_list = isinstance(words, Sequence) and not isinstance(words, str)
    if not is_list or not words or not all(isinstance(word, str) and word for word in words):
        raise InputError(f"words must be a list of texts, none empty, got {words!r:.60}")
    if separator is not None and (not isinstance(separator, str) or not separator):
        raise InputError(f"separator must be a text or None, got {separator!r:.40}")
    one = f"(?:{'|'.join(map(re.escape, dict.fromkeys(words)))})"
    more = "" if separator is None else f"(?:{re.escape(separator)}{one})*"
    return Constraint(one + more, after=after)


def json_schema(
    schema: Mapping[str, Any], *, whitespace: str = " ?", after: str | None = None
) -> Constraint:
    """Completions that are JSON and satisfy a schema; see `json_patterns` for what is understood.

    :param schema: as `json.loads` gives it.
    :param whitespace: a regular expression of what may stand after a comma and a colon.
    :param after: see `Constraint`.
    :raises InputError: naming the place in the schema that cannot be turned into a mask.
    """
    pattern = schema_pattern(schema, whitespace=whitespace)
    return Constraint(pattern, is_ascii=True, after=after)


def grammar(grammar: str, *, after: str | None = None) -> GrammarConstraint:
    """Completions that a context-free grammar derives from its rule `start` (extra `grammar`).

    :param grammar: in Lark's notation, as llguidance reads it; see `grammars`.
    :param after: see `Constraint`.
    :raises InputError: naming line and column of what cannot be read.
    """
    return GrammarConstraint(grammar, after=after)


def as_constraint(value: object) -> AnyConstraint | None:
    """A constraint from itself, from a regular expression, or from its fields as JSON holds them.

    :raises InputError: for anything else.
    """
    if value is None or isinstance(value, AnyConstraint):
        return value
    if isinstance(value, str):
        return regex(value)
    if isinstance(value, Mapping):
        kind = GrammarConstraint if "grammar" in value else Constraint
        known = [field.name for field in fields(kind)]
        for name in value:
            if name not in known:
                raise unknown_name("field of a constraint", str(name), known)
        if "pattern" in value or "grammar" in value:
            return kind(**value)
    raise InputError(
        "constraint must come from textgym.constraints (regex, words, json_schema, grammar) or be "
        f"a regular expression, got {value!r:.60}"
    )
