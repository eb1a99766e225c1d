r"""A JSON schema as a regular expression of texts that satisfy it.

Every text that the expression matches is JSON and valid under the schema (JSON Schema 2020-12); not
every valid text matches. Objects have their declared properties in the declared order and no
others, numbers have no exponent, strings no `\u` escapes, and between values stands at most what
`whitespace` allows. A keyword that is not understood is an error, never ignored: a mask that
promises less than its schema says would be worse than none. Recursive schemas and values of any
kind describe nested brackets, which are no regular language; they are refused too.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from textgym.constraints.byte_automaton import compile_regex
from textgym.errors import InputError

# Keywords that only describe, or that are read where a `$ref` points to them.
_NOTES = frozenset(
    "$schema $id $comment $defs definitions title description default examples deprecated".split()
)
_KEYWORDS = {
    "string": {"minLength", "maxLength", "pattern"},
    "integer": {"minimum", "maximum"},
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
_TYPES = {
    "string": str,
    "integer": int,
    "number": int | float,
    "boolean": bool,
    "null": type(None),
    "array": list | tuple,
    "object": Mapping,
}
_INTEGER = "-?(?:0|[1-9][0-9]*)"
_CHARACTER = r'(?:[^"\\\x00-\x1f\x7f]|\\["\\/bfnrt])'
_MOST_INTEGERS = 10_000


def schema_pattern(schema: Mapping[str, Any], *, whitespace: str = " ?") -> str:
    r"""The expression, to be read with ASCII meanings of `\d`, `\s` and `\w`.

    :param schema: as `json.loads` gives it.
    :param whitespace: an expression of what may stand after a comma and a colon.
    :raises InputError: naming the place and the keyword that cannot be turned into a mask.
    """
    return _Translator(schema, whitespace).pattern(schema, "schema", ())


class _Translator:
    def __init__(self, root: Any, whitespace: str) -> None:
        self.root = root
        space = f"(?:{whitespace})" if whitespace else ""
        self.comma, self.colon = f",{space}", f":{space}"

    def pattern(self, schema: Any, where: str, references: tuple[str, ...]) -> str:
        """The expression of one schema inside the root.

        :param where: its place, for errors.
        :param references: the `$ref`s that are being followed.
        """
        if not isinstance(schema, Mapping):
            raise InputError(f"{where}: expected a JSON object, got {schema!r:.40}")
        given = {key: value for key, value in schema.items() if key not in _NOTES}
        if "$ref" in given:
            _refuse_others(given, {"$ref"}, where)
            return self._reference(given["$ref"], where, references)
        if "anyOf" in given:
            _refuse_others(given, {"anyOf"}, where)
            parts = _listed(given["anyOf"], f"{where}.anyOf")
            inner = [self.pattern(p, f"{where}.anyOf[{i}]", references) for i, p in parts]
            return _either(inner)
        for keyword in ("const", "enum"):
            if keyword in given:
                _refuse_others(given, {keyword, "type"}, where)
                values = given["enum"] if keyword == "enum" else [given["const"]]
                return _either(_constants(values, given.get("type"), where))
        kinds = given.get("type")
        if isinstance(kinds, list):
            own = [{k: v for k, v in given.items() if _is_of(k, kind)} for kind in kinds]
            _refuse_others(given, {"type", *(k for part in own for k in part)}, where)
            single = [{**part, "type": kind} for part, kind in zip(own, kinds, strict=True)]
            return _either([self.pattern(part, where, references) for part in single])
        if not isinstance(kinds, str) or kinds not in _KEYWORDS:
            raise InputError(
                f"{where}: expected a type out of {', '.join(_KEYWORDS)}, or enum, const, anyOf or "
                f"$ref, got {dict(given)!r:.60}"
            )
        _refuse_others(given, {"type", *_KEYWORDS[kinds]}, where)
        if kinds == "object":
            return self._object(given, where, references)
        if kinds == "array":
            return self._array(given, where, references)
        if kinds == "string":
            return _string(given, where)
        if kinds == "integer":
            return _integer(given, where)
        return {"number": rf"{_INTEGER}(?:\.[0-9]+)?", "boolean": "(?:true|false)"}.get(
            kinds, "null"
        )

    def _reference(self, target: Any, where: str, references: tuple[str, ...]) -> str:
        if not isinstance(target, str) or not target.startswith("#/"):
            raise InputError(f"{where}: expected a $ref inside the schema ('#/...'), got {target}")
        if target in references:
            raise InputError(f"{where}: {target} refers to itself, which no mask can follow")
        found = self.root
        for name in target[2:].split("/"):
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, Mapping) or name not in found:
                raise InputError(f"{where}: the schema has no {target}")
            found = found[name]
        return self.pattern(found, target, (*references, target))

    def _array(self, given: Mapping[str, Any], where: str, references: tuple[str, ...]) -> str:
        if "items" not in given:
            raise InputError(f"{where}: an array needs items: what its elements are")
        item = self.pattern(given["items"], f"{where}.items", references)
        low, high = _bounds(given, "minItems", "maxItems", where)
        if high == 0:
            return r"\[\]"
        more = f"(?:{self.comma}{item}){{{max(low - 1, 0)},{'' if high is None else high - 1}}}"
        return rf"\[{item}{more}\]" if low else rf"\[(?:{item}{more})?\]"

    def _object(self, given: Mapping[str, Any], where: str, references: tuple[str, ...]) -> str:
        properties, required = given.get("properties"), given.get("required", [])
        if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
            raise InputError(f"{where}: an object needs properties, and required as a list")
        if given.get("additionalProperties", False) not in (True, False):
            raise InputError(f"{where}: additionalProperties cannot be a schema here: leave it out")
        for name in required:
            if name not in properties:
                raise InputError(f"{where}: {name!r} is required but not among the properties")
        members = [
            (
                _exactly(name) + self.colon + self.pattern(part, f"{where}.{name}", references),
                name in required,
            )
            for name, part in properties.items()
        ]
        return rf"\{{{self._members(members)}\}}"

    def _members(self, members: Sequence[tuple[str, bool]]) -> str:
        """Members in order, those that are not required possibly left out."""
        if not members:
            return ""
        firsts = [i for i, (_, is_required) in enumerate(members) if is_required][:1]
        # Whichever member comes first has no comma before it; each later one brings its own.
        starts = range(firsts[0] + 1) if firsts else range(len(members))
        choices = []
        for start in starts:
            rest = "".join(
                f"{self.comma}{text}" if is_required else f"(?:{self.comma}{text})?"
                for text, is_required in members[start + 1 :]
            )
            choices.append(members[start][0] + rest)
        return _either(choices) + ("" if firsts else "?")


def _string(given: Mapping[str, Any], where: str) -> str:
    low, high = _bounds(given, "minLength", "maxLength", where)
    if "pattern" not in given:
        return f'"{_CHARACTER}{{{low},{"" if high is None else high}}}"'
    if low or high is not None:
        raise InputError(f"{where}: pattern with a length: write the length into the pattern")
    automaton = compile_regex(given["pattern"], is_ascii=True)
    must_be_escaped = [*range(0x20), 0x22, 0x5C]
    if automaton.table[:, must_be_escaped].any():
        raise InputError(
            f"{where}: pattern {given['pattern']!r:.40} allows quotes, backslashes or control "
            'characters, which JSON escapes: exclude them, as [^"\\\\\\x00-\\x1f] does'
        )
    return f'"(?:{_without_anchors(given["pattern"])})"'


def _without_anchors(pattern: str) -> str:
    """The expression without `^` and `$` at its ends, where they say nothing."""
    pattern = pattern.removeprefix("^")
    backslashes = len(pattern[:-1]) - len(pattern[:-1].rstrip("\\"))
    return pattern[:-1] if pattern.endswith("$") and backslashes % 2 == 0 else pattern


def _integer(given: Mapping[str, Any], where: str) -> str:
    low, high = given.get("minimum"), given.get("maximum")
    for bound in (low, high):
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool)):
            raise InputError(f"{where}: expected whole numbers as bounds, got {bound!r}")
    if low is None and high is None:
        return _INTEGER
    if high is None and low in (0, 1):
        return "(?:0|[1-9][0-9]*)" if low == 0 else "[1-9][0-9]*"
    if low is None or high is None or not low <= high < low + _MOST_INTEGERS:
        raise InputError(
            f"{where}: expected minimum 0 or 1, or minimum and maximum with at most "
            f"{_MOST_INTEGERS} integers between, got {low} and {high}"
        )
    return _either([str(value) for value in range(low, high + 1)])


def _bounds(given: Mapping[str, Any], least: str, most: str, where: str) -> tuple[int, int | None]:
    low, high = given.get(least, 0), given.get(most)
    for name, bound in ((least, low), (most, high)):
        if bound is not None and (
            not isinstance(bound, int) or isinstance(bound, bool) or bound < 0
        ):
            raise InputError(f"{where}: {name} must be a whole number from 0, got {bound!r}")
    if high is not None and high < low:
        raise InputError(f"{where}: {most} ({high}) is less than {least} ({low})")
    return low, high


def _constants(values: Any, kinds: Any, where: str) -> list[str]:
    """The expressions of given values, those of another type left out."""
    texts = [
        _exactly(value)
        for _, value in _listed(values, f"{where}.enum")
        if kinds is None or any(_is_a(value, kind) for kind in _as_list(kinds))
    ]
    if not texts:
        raise InputError(f"{where}: no value of enum or const has the type {kinds!r}")
    return texts


def _exactly(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise InputError(f"a schema holds a value that is not JSON: {error}") from None
    return re.escape(text)


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return kind in _TYPES and isinstance(value, _TYPES[kind])


def _is_of(keyword: str, kind: Any) -> bool:
    return keyword in _KEYWORDS.get(kind, ())


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _listed(values: Any, where: str) -> list[tuple[int, Any]]:
    if not isinstance(values, list | tuple) or not values:
        raise InputError(f"{where}: expected a list with at least one entry, got {values!r:.40}")
    return list(enumerate(values))


def _either(patterns: Sequence[str]) -> str:
    return f"(?:{'|'.join(patterns)})"


def _refuse_others(given: Mapping[str, Any], known: set[str], where: str) -> None:
    for keyword in given:
        if keyword not in known:
            beside = ", ".join(sorted(known & given.keys() - {"type"})) or f"type {given['type']!r}"
            raise InputError(
                f"{where}: {keyword!r} beside {beside} cannot be turned into a mask: leave it out"
            )
