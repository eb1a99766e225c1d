"""The parsing and comparing that the data recipes do, on hand-made cases."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

RECIPES = Path(__file__).resolve().parent.parent / "recipes"


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("source_archives")


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(RECIPES))
    return importlib.import_module("near_duplicates")


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (" a place;  ", ["a place"]),
        (' a place; "we met there"; "no!"  ', ["a place", "we met there", "no!"]),
        (' a place: "we met there"- A. Poet; "x y"', ["a place", "we met there", "x y"]),
        (
            ' used in the phrase "on the job" only; "x"',
            ['used in the phrase "on the job" only', "x"],
        ),
        (" followed by `with'", ["followed by 'with'"]),
        (' "we met there"', ['"we met there"']),
    ],
)
def test_glosses_and_examples_come_apart(
    archives: ModuleType, entry: str, expected: list[str]
) -> None:
    assert archives.split_gloss(entry) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Isn''t it ''great''?", 'Isn"t it "great"?'),
        ("a film    a good one    for all", "a film - a good one - for all"),
        ("two  spaces\nand a line  ", "two spaces and a line"),
        ("Q &amp; A, at &amp;#38; t", "Q & A, at & t"),
        ("cafe\u0301\x07", "caf\u00e9"),
    ],
)
def test_snippets_are_cleaned(archives: ModuleType, text: str, expected: str) -> None:
    assert archives.clean_snippet(text) == expected


def test_near_duplicates_are_found_by_both_measures(near: ModuleType) -> None:
    long = "A thoughtful, slow and rather beautiful film about two sisters by the sea."
    texts = [
        long,
        "Nothing like it at all, a comedy of manners.",
        long.replace("two", "three").upper(),  # most 8-grams are the same
        "It is, they say, a thoughtful, slow and rather beautiful film. " + "Other words. " * 9,
        "slow and rather beautiful film about two sisters",  # contained
    ]
    assert list(near.near_duplicate_pairs(texts)) == [(0, 2), (0, 4)]


def test_near_duplicate_thresholds_are_inclusive(near: ModuleType) -> None:
    # Keys of 10 and 11 characters: 3 and 4 8-grams, of which 3 are shared: 3 / 4 of the union.
    assert list(near.near_duplicate_pairs(["abcdefghij", "abcdefghijk"])) == [(0, 1)]
    # 4 and 6 8-grams share 3: 3 / 7 of the union, and too short for the measure of containment.
    assert list(near.near_duplicate_pairs(["xabcdefghij", "abcdefghijklm"])) == []
    # 2 and 4 8-grams share 2: 2 / 4 of the union, which is just enough.
    assert list(near.near_duplicate_pairs(["abcdefghi", "abcdefghijk"])) == [(0, 1)]
