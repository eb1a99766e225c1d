"""`--reward NAME,key=value`: values have the types of the signature."""

import enum
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from textgym.errors import InputError
from textgym.rewards_by_name import resolve_reward
from textgym.typed_arguments import typed_arguments


class Colour(enum.Enum):
    RED = "red"


def annotated(
    text: str = "",
    number: float = 1.0,
    count: int = 1,
    flag: bool = False,
    words: str | Sequence[str] | None = None,
    maybe: float | None = None,
    unit: Literal["a", "b"] = "a",
    many: Sequence[int] = (),
    years: list[str] | None = None,
    kinds: frozenset[str] = frozenset(),
    pair: tuple[float, ...] = (),
    folder: Path | None = None,
    colour: "Colour | None" = None,
    depth: Literal[1, 2] = 1,
    anything: Any = None,
): ...


def bare(text="x", number=1.0, count=2, flag=True, open=None, **others): ...


def as_text(text: "str", path: "Undefined" = 1): ...  # noqa: F821


CASES = [
    (annotated, "text", "2024", "2024"),
    (annotated, "text", "true", "true"),
    (annotated, "text", "null", "null"),
    (annotated, "text", '"2024"', "2024"),
    (annotated, "text", "a=b", "a=b"),
    (annotated, "number", "3", 3.0),
    (annotated, "count", "3", 3),
    (annotated, "flag", "True", True),
    (annotated, "flag", "false", False),
    (annotated, "words", "1999", "1999"),
    (annotated, "words", "None", None),
    (annotated, "words", '["a"]', ["a"]),
    (annotated, "maybe", "none", None),
    (annotated, "maybe", "0.5", 0.5),
    (annotated, "unit", "b", "b"),
    (annotated, "many", "[3]", [3]),
    (annotated, "many", "3", [3]),
    (annotated, "years", "1984", ["1984"]),
    (annotated, "years", "none", None),
    (annotated, "kinds", "true", frozenset({"true"})),
    (annotated, "pair", "2", (2.0,)),
    (annotated, "folder", "runs/rm", Path("runs/rm")),
    (annotated, "colour", "red", Colour.RED),
    (annotated, "colour", "RED", Colour.RED),
    (annotated, "depth", "2", 2),
    (annotated, "anything", "3", 3),
    (annotated, "anything", "word", "word"),
    (bare, "text", "7", "7"),
    (bare, "number", "7", 7.0),
    (bare, "count", "7", 7),
    (bare, "flag", "false", False),
    (bare, "open", "7", 7),
    (bare, "further", "7", 7),
    (as_text, "text", "7", 7),  # nothing says that it is a text
]


@pytest.mark.parametrize(("function", "name", "text", "expected"), CASES)
def test_a_value_has_the_type_that_the_signature_names(function, name, text, expected):
    value = typed_arguments(function, {name: text}, "it")[name]
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("number", "many", "it: number must be a number, got 'many'"),
        ("count", "1.5", "it: count must be a whole number, got '1.5'"),
        ("flag", "yes", "it: flag must be true or false, got 'yes'"),
        ("maybe", "x", "it: maybe must be a number, got 'x'"),
        ("unit", "c", "it: unit must be 'a' or 'b', got 'c'"),
        ("depth", "3", "it: depth must be '1' or '2', got '3'"),
        ("colour", "green", "it: colour must be 'red' or 'RED', got 'green'"),
        ("many", "x", "it: many must be a whole number, got 'x'"),
    ],
)
def test_a_wrong_value_is_named(name, text, message):
    with pytest.raises(InputError, match=message):
        typed_arguments(annotated, {name: text}, "it")


def test_rewards_get_them():
    assert resolve_reward("regex,pattern=2024")(["p"], ["in 2024"]) == [1.0]
    assert resolve_reward("keyword,words=1999")(["p"], ["party like 1999"]) == [1.0]
    assert resolve_reward("length,target=40").target == 40.0
    with pytest.raises(InputError, match="reward 'length,target=long': target must be a number"):
        resolve_reward("length,target=long")


def broken(wanted: int = 1):
    raise KeyError(wanted)


def test_a_reward_that_cannot_be_made_is_one_line():
    with pytest.raises(InputError, match="broken,wanted=3' cannot be made: KeyError: 3"):
        resolve_reward(f"{__name__}:broken,wanted=3")


def test_an_argument_that_is_given_twice_is_refused():
    with pytest.raises(InputError, match="target is given twice: leave one out"):
        resolve_reward("length,target=4,target=40")
