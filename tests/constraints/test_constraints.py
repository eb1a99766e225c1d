"""What a user writes: regular expressions, word lists, schemas, and their plain form."""

import json
import pickle
import re

import pytest

from textgym import constraints
from textgym.constraints import Constraint, as_constraint
from textgym.errors import InputError, UnknownNameError


def test_words_are_taken_literally():
    one = constraints.words(["a.b", "苹果", "a.b", "x|y"])
    assert [bool(re.fullmatch(one.pattern, t)) for t in ("a.b", "苹果", "x|y", "axb", "x")] == [
        True,
        True,
        True,
        False,
        False,
    ]
    several = constraints.words(["b", "b+"], separator="+")
    for text, is_in in (("b", True), ("b+b", True), ("b++b+", True), ("b+b++", False), ("", False)):
        assert bool(re.fullmatch(several.pattern, text)) == is_in, text


def test_a_schema_has_ascii_classes_and_a_regex_unicode_ones():
    schema = {"type": "string", "pattern": r"\d"}
    assert constraints.json_schema(schema) == Constraint(r'"(?:\d)"', is_ascii=True)
    assert constraints.regex(r"\d", after="A: ") == Constraint(r"\d", after="A: ")


def test_it_is_plain_data():
    constraint = constraints.regex("(a|b)+", after="=")
    assert pickle.loads(pickle.dumps(constraint)) == constraint  # noqa: S301
    fields = json.loads(json.dumps(vars(constraint)))
    assert as_constraint(fields) == as_constraint(constraint) == constraint
    assert as_constraint("(a|b)+") == constraints.regex("(a|b)+") and as_constraint(None) is None
    assert hash(constraint) == hash(as_constraint(fields))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: constraints.regex("("), "not a regular expression"),
        (lambda: constraints.regex("a", after=""), "after must be a text that ends every prompt"),
        (lambda: constraints.words("ab"), "words must be a list of texts"),
        (lambda: constraints.words([]), "words must be a list of texts"),
        (lambda: constraints.words(["a", ""]), "words must be a list of texts, none empty"),
        (lambda: constraints.words(["a"], separator=""), "separator must be a text or None"),
        (lambda: constraints.json_schema({"type": "x"}), "schema: expected a type"),
        (lambda: as_constraint(7), "constraint must come from textgym.constraints"),
        (lambda: as_constraint({"after": "x"}), "constraint must come from textgym.constraints"),
    ],
)
def test_bad_input_is_one_line(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_a_wrong_field_proposes_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'pattern'"):
        as_constraint({"patern": "a"})
