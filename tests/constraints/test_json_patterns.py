"""JSON schemas as regular expressions: whatever matches is JSON and satisfies the schema."""

import json
import random
import re
from collections.abc import Mapping

import pytest

from textgym.constraints.byte_automaton import compile_regex
from textgym.constraints.json_patterns import schema_pattern
from textgym.errors import InputError

REVIEW = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Review",
    "type": "object",
    "properties": {
        "title": {"type": "string", "minLength": 1, "maxLength": 4},
        "stars": {"type": "integer", "minimum": -1, "maximum": 12},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "maxItems": 2},
        "seen": {"type": ["boolean", "null"], "description": "in the cinema"},
    },
    "required": ["stars"],
    "additionalProperties": False,
    "$defs": {"tag": {"enum": ["gut", "schön", '"so"', 3, None, [1, {"a": 2}]]}},
}
OPTIONAL = {
    "type": "object",
    "properties": {name: {"type": "null"} for name in ("a", 'b"\\', "c")},
}
CODES = {
    "type": "array",
    "items": {
        "anyOf": [
            {"type": "string", "pattern": r"^[A-Z]{2}\d?\$$"},
            {"type": "number"},
            {"const": False},
        ]
    },
    "minItems": 2,
    "maxItems": 3,
}


def validate(value, schema, root):
    """The part of JSON Schema that is used here, written down independently."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        return any(validate(value, part, root) for part in schema["anyOf"])
    if "const" in schema or "enum" in schema:
        allowed = schema.get("enum", [schema.get("const")])
        return any(json.dumps(value) == json.dumps(other) for other in allowed)
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return any(validate_kind(value, kind, schema, root) for kind in kinds)


def validate_kind(value, kind, schema, root):
    if kind in ("boolean", "null"):
        return isinstance(value, bool) if kind == "boolean" else value is None
    if isinstance(value, bool):
        return False
    if kind == "integer":
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        return isinstance(value, int) and low <= value <= high
    if kind == "number":
        return isinstance(value, int | float)
    if kind == "string":
        if not isinstance(value, str) or not re.search(schema.get("pattern", ""), value):
            return False
        return schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
    if kind == "array":
        low, high = schema.get("minItems", 0), schema.get("maxItems", 10**9)
        is_list = isinstance(value, list) and low <= len(value) <= high
        return is_list and all(validate(item, schema["items"], root) for item in value)
    known = schema["properties"]
    return (
        isinstance(value, Mapping)
        and set(schema.get("required", ())) <= value.keys() <= known.keys()
        and all(validate(item, known[name], root) for name, item in value.items())
    )


def texts(pattern, count, seed=0):
    """Random texts of a language, by a random walk through its automaton."""
    automaton, rng = compile_regex(pattern, is_ascii=True), random.Random(seed)
    for _ in range(count):
        state, text = automaton.start, b""
        while True:
            allowed = automaton.table[state].nonzero()[0].tolist()
            if automaton.is_final[state] and (not allowed or rng.random() < 0.3):
                break
            byte = rng.choice(allowed)
            text += bytes([byte])
            state = int(automaton.table[state, byte])
        yield text.decode()


@pytest.mark.parametrize("schema", [REVIEW, OPTIONAL, CODES], ids=["review", "optional", "codes"])
def test_every_text_is_json_and_valid(schema):
    found = list(texts(schema_pattern(schema), 400))
    assert len(set(found)) > 7
    for text in found:
        assert validate(json.loads(text), schema, schema), text


@pytest.mark.parametrize(
    ("schema", "yes", "no"),
    [
        ({"type": "integer"}, ["0", "-12", "70"], ["01", "1.0", "+1", "", "1e3"]),
        ({"type": "integer", "minimum": 0}, ["0", "12"], ["-1", "00"]),
        ({"type": "integer", "minimum": 1}, ["1", "10"], ["0", "-1"]),
        ({"type": "integer", "minimum": 8, "maximum": 11}, ["8", "9", "10", "11"], ["7", "12"]),
        ({"type": "number"}, ["0", "-0.5", "12.25"], ["1.", ".5", "NaN", "1e5"]),
        ({"type": "boolean"}, ["true", "false"], ["True", "0"]),
        ({"const": "a.b"}, ['"a.b"'], ['"axb"']),
        ({"enum": ["x", 1, None]}, ['"x"', "1", "null"], ["x", '"1"']),
        ({"type": "string", "enum": ["x", 1]}, ['"x"'], ["1"]),
        ({"type": "string", "maxLength": 1}, ['""', '"电"', r'"\n"', r'"\\"'], ['"ab"', '"\n"']),
        ({"type": "array", "items": {"type": "null"}, "maxItems": 0}, ["[]"], ["[null]"]),
        (
            {"type": "array", "items": {"type": "null"}, "minItems": 1},
            ["[null]", "[null,null]", "[null, null]"],
            ["[]", "[null,]", "[ null]", "[null,  null]"],
        ),
        ({"type": "object", "properties": {}}, ["{}"], ["{ }"]),
        (
            OPTIONAL,
            ["{}", '{"a":null}', '{"c": null}', r'{"a":null,"b\"\\":null, "c":null}'],
            ['{"c":null,"a":null}', '{"a":null,}', '{,"a":null}'],
        ),
        (
            {
                "type": "object",
                "properties": {name: {"type": "null"} for name in "abc"},
                "required": ["b"],
            },
            ['{"b":null}', '{"a":null,"b":null}', '{"b":null,"c":null}'],
            ["{}", '{"a":null}', '{"a":null,"c":null}'],
        ),
    ],
    ids=lambda value: json.dumps(value)[:40] if isinstance(value, dict) else "",
)
def test_by_hand(schema, yes, no):
    automaton = compile_regex(schema_pattern(schema), is_ascii=True)
    assert [text for text in yes if not automaton.matches(text.encode())] == []
    assert [text for text in no if automaton.matches(text.encode())] == []
    for text in yes:
        assert validate(json.loads(text), schema, schema)


def test_whitespace_is_the_callers():
    schema = {"type": "array", "items": {"type": "null"}}
    assert re.fullmatch(schema_pattern(schema, whitespace=""), "[null,null]")
    assert not re.fullmatch(schema_pattern(schema, whitespace=""), "[null, null]")
    assert re.fullmatch(schema_pattern(schema, whitespace=r"\s*"), "[null,\n  null]")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "schema: expected a type out of string, integer"),
        (True, "schema: expected a JSON object, got True"),
        ({"type": "text"}, "schema: expected a type out of"),
        ({"type": "array"}, "schema: an array needs items"),
        ({"type": "object"}, "schema: an object needs properties"),
        ({"type": "string", "format": "date"}, "schema: 'format' beside type 'string'"),
        ({"oneOf": [{"type": "null"}]}, "schema: expected a type out of"),
        ({"anyOf": []}, "schema.anyOf: expected a list with at least one entry"),
        ({"anyOf": [{"type": "null"}], "type": "null"}, "schema: 'type' beside anyOf"),
        ({"enum": []}, "schema.enum: expected a list with at least one entry"),
        ({"type": "string", "enum": [1]}, "no value of enum or const has the type 'string'"),
        ({"const": float("nan")}, "holds a value that is not JSON"),
        ({"$ref": "#/$defs/x"}, r"schema: the schema has no #/\$defs/x"),
        ({"$ref": "http://x"}, r"expected a \$ref inside the schema"),
        ({"type": "integer", "minimum": 3}, "expected minimum 0 or 1, or minimum and maximum"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "got 3 and 2"),
        ({"type": "integer", "minimum": 0.5}, "expected whole numbers as bounds, got 0.5"),
        ({"type": "string", "maxLength": -1}, "maxLength must be a whole number from 0, got -1"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, r"maxLength \(2\) is less than"),
        ({"type": "string", "pattern": "."}, "allows quotes, backslashes or control characters"),
        ({"type": "string", "pattern": "("}, "not a regular expression"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "write the length into the pattern"),
        (
            {"type": "object", "properties": {"a": {"type": "integer", "multipleOf": 2}}},
            "schema.a: 'multipleOf' beside type 'integer' cannot be turned into a mask",
        ),
        (
            {"type": "object", "properties": {}, "required": ["z"]},
            "'z' is required but not among the properties",
        ),
        (
            {"type": "object", "properties": {}, "additionalProperties": {"type": "null"}},
            "additionalProperties cannot be a schema",
        ),
        (
            {
                "$ref": "#/$defs/x",
                "$defs": {"x": {"type": "array", "items": {"$ref": "#/$defs/x"}}},
            },
            r"#/\$defs/x.items: #/\$defs/x refers to itself",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_turned_into_a_mask_is_named(schema, message):
    with pytest.raises(InputError, match=message) as caught:
        schema_pattern(schema)
    assert "\n" not in str(caught.value)
