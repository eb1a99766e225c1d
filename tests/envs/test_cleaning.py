"""Cleaning: each rule on hand-made texts, the counts of the report, laziness and repetition."""

import unicodedata
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from textgym.envs.texts.preparation import (
    Cleaner,
    ControlCharacters,
    Duplicates,
    Length,
    Normalize,
    Rule,
    TextStep,
    Whitespace,
    default_rules,
    rule,
)
from textgym.envs.texts.preparation.step import TextFunction
from textgym.errors import InputError
from textgym.near_copies import text_key


def clean_one(one: TextStep, text: str) -> str | None:
    return one.start()(text)


@pytest.mark.parametrize(
    ("one", "text", "expected"),
    [
        (Normalize(), "cafe\u0301", "caf\u00e9"),
        (Normalize("NFKC"), "\uff21\ufb01", "Afi"),
        (ControlCharacters(), "\ufeffa\x00b\x1b[1mc\td\ud800", "ab[1mc\td"),
        (ControlCharacters(), "\u0928\u200d\u092e\u0947", "\u0928\u200d\u092e\u0947"),
        (Whitespace(), "  a \t\r\n b\u3000c\x85d ", "a b c d"),
        (Whitespace(keep_lines=True), " a \r\n\n b  c ", "a\nb c"),
        (Length(3), "ab", None),
        (Length(3), "abc", "abc"),
        (Length(0, 3), "abcd", None),
        (Length(0, 3), "abc", "abc"),
    ],
)
def test_each_rule_does_what_it_is_named_for(
    one: TextStep, text: str, expected: str | None
) -> None:
    assert clean_one(one, text) == expected


def test_duplicates_are_found_on_letters_and_digits_only() -> None:
    texts = ["A good film.", "a GOOD film!!", "A good film 2", "...", "!!!", "...", "caf\u00e9"]
    assert list(Cleaner([Duplicates()]).clean([*texts, "Cafe\u0301"])) == [
        "A good film.",
        "A good film 2",
        "...",
        "!!!",
        "caf\u00e9",
    ]


def test_key_keeps_vowel_signs() -> None:
    # Two Hindi words that differ in a vowel sign (category M) only.
    assert text_key("\u0915\u093f") != text_key("\u0915\u0940")
    assert text_key("A-b 3\uff14!") == "ab34"


@given(st.text())
def test_key_is_the_same_for_every_normal_form(text: str) -> None:
    forms = ("NFC", "NFD", "NFKC", "NFKD")
    assert len({text_key(unicodedata.normalize(form, text)) for form in forms}) == 1


def test_report_counts_what_each_rule_changed_and_removed() -> None:
    texts = ["  cafe\u0301 noir ", "caf\u00e9 noir", "x", "a\x07bc", "long" * 9, "fine text"]
    cleaned = Cleaner(default_rules(min_characters=2, max_characters=20)).clean(texts)
    assert list(cleaned) == ["caf\u00e9 noir", "abc", "fine text"]
    counts = {c.name: (c.changed, c.removed) for c in cleaned.report.steps}
    assert counts == {
        "unicode NFC": (1, 0),
        "control characters": (1, 0),
        "white space": (1, 0),
        "length 2 to 20": (0, 2),
        "duplicates": (0, 1),
    }
    assert (cleaned.report.read, cleaned.report.kept) == (6, 3)
    table = str(cleaned.report).splitlines()
    assert [len(line) for line in table[:-1]] == [len(table[0])] * 6
    assert table[4].split() == ["length", "2", "to", "20", "0", "2"]
    assert table[-1].split() == ["texts", "kept", "3", "of", "6"]


def test_texts_are_cleaned_one_at_a_time() -> None:
    taken = []

    def source() -> Iterator[str]:
        for text in ("one", "two", "three"):
            taken.append(text)
            yield text

    iterator = iter(Cleaner().clean(source()))
    assert taken == []
    assert next(iterator) == "one"
    assert taken == ["one"]


def test_a_second_pass_starts_afresh() -> None:
    cleaned = Cleaner().clean(["one", "ONE", "two"])
    assert list(cleaned) == list(cleaned) == ["one", "two"]
    assert (cleaned.report.read, cleaned.report.kept) == (3, 2)


def test_an_iterator_is_refused_the_second_time() -> None:
    cleaned = Cleaner().clean(iter(["one"]))
    assert list(cleaned) == ["one"]
    with pytest.raises(InputError, match="have been read; give a list or file"):
        list(cleaned)


def test_a_rule_of_ones_own_takes_its_place_and_is_counted() -> None:
    stop_words = {"the", "a"}

    def without_stop_words(text: str) -> str:
        return " ".join(word for word in text.split() if word not in stop_words)

    own = rule("stop words", without_stop_words)
    cleaned = Cleaner([*default_rules(), own]).clean(["the end of a film", "nothing here"])
    assert list(cleaned) == ["end of film", "nothing here"]
    assert cleaned.report.steps[-1].name == "stop words"
    assert cleaned.report.steps[-1].changed == 1


def test_a_rule_with_memory_is_started_once_a_pass() -> None:
    def start() -> TextFunction:
        numbers = iter(range(100))
        return lambda text: f"{next(numbers)} {text}"

    cleaned = Cleaner([Rule("number", start)]).clean(["a", "b"])
    assert list(cleaned) == ["0 a", "1 b"]
    assert list(cleaned) == ["0 a", "1 b"]


def test_a_rule_that_returns_no_text_is_named() -> None:
    broken = rule("broken", lambda text: 3)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="rule 'broken': expected a text or None, got int"):
        list(Cleaner([broken]).clean(["text"]))


@pytest.mark.parametrize(("low", "high"), [(0, 5), (6, 5)])
def test_impossible_lengths_are_refused(low: int, high: int) -> None:
    with pytest.raises(InputError, match=f"got {low} and {high}"):
        default_rules(min_characters=low, max_characters=high)


@given(st.lists(st.text(st.characters())))
@example(["e\x00\u0301"])
def test_cleaning_twice_changes_nothing_more(texts: list[str]) -> None:
    once = list(Cleaner().clean(texts))
    again = Cleaner().clean(once)
    assert list(again) == once
    assert all(text == text.strip() and text.encode("utf-8") for text in once)
    assert len({text_key(text) or text for text in once}) == len(once)
