"""Words of many scripts: marks belong to their letters, and both normal forms give one answer."""

import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.reward_models import Keyword, Length, Lexicon, Repetition
from textgym.reward_models.learned.features import NgramHasher
from textgym.text_metrics.metrics import (
    commonest_bigram,
    duplicate_share,
    made_up_words,
    word_vocabulary,
)
from textgym.text_metrics.words import count_characters, split_words

HINDI = "\u0939\u093f\u0928\u094d\u0926\u0940"
LANGUAGE = "\u092d\u093e\u0937\u093e"
OF, TOO = "\u0915\u0940", "\u0915\u093e"  # one letter, two vowel signs
ARABIC = "\u0645\u064f\u062d\u064e\u0645\u0651\u064e\u062f"
HEBREW = "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd"
PERSIAN = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
RAM = "\u0930\u093e\u092e"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{HINDI} {LANGUAGE}!", [HINDI, LANGUAGE]),
        (f"{ARABIC} \u0645", [unicodedata.normalize("NFC", ARABIC), "\u0645"]),
        (HEBREW, [unicodedata.normalize("NFC", HEBREW)]),
        ("ti\u1ebfng Vi\u1ec7t", ["ti\u1ebfng", "vi\u1ec7t"]),
        ("\u0e14\u0e35\u0e21\u0e31\u0e01", ["\u0e14\u0e35", "\u0e21\u0e31", "\u0e01"]),
        ("\u6620\u753b\u30fb\u304c\u3093", ["\u6620", "\u753b", "\u304c", "\u3093"]),
        ("l\u2019\u00e9t\u00e9 d'o\u00f9", ["l'\u00e9t\u00e9", "d'o\u00f9"]),
        (PERSIAN, [PERSIAN]),
        ("\u0915\u094d\u200d\u0937", ["\u0915\u094d\u200d\u0937"]),
        ("co\u00adoperate a\ufe0fb", ["cooperate", "ab"]),
        ("\u0130stanbul", ["i\u0307stanbul"]),
        ("\u2764\ufe0f \U0001f44d\U0001f3fd \U0001f469\u200d\U0001f467 \u0301", []),
        ("1\ufe0f\u20e3 x_y", ["1", "x", "y"]),
    ],
)  # fmt: skip
def test_words_keep_their_marks_in_either_normal_form(text: str, words: list[str]) -> None:
    for form in (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
        assert split_words(form) == words


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_both_normal_forms_give_the_same_words_and_features(text: str) -> None:
    composed, apart = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert split_words(composed) == split_words(apart) == split_words(text)
    assert count_characters(composed) == count_characters(apart)
    features = NgramHasher(bits=16)([composed, apart])
    half = int(features.offsets[1])
    assert np.array_equal(features.buckets[:half], features.buckets[half:])


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_english_has_the_words_it_always_had(text: str) -> None:
    assert split_words(text) == re.findall(r"[a-z0-9]+(?:'[a-z0-9]+)*", text.lower())


def test_rules_and_metrics_count_whole_words() -> None:
    assert Length(2)(["p"], [f"{HINDI} {LANGUAGE}"]) == [1.0]
    assert Keyword(words=["\u0915\u093f"])(["p"], [f"{RAM} {TOO} \u0918\u0930"]) == [0.0]
    assert Keyword(words=[TOO])(["p"], [f"{RAM} {TOO} \u0918\u0930"]) == [1.0]
    assert Repetition(1)(["p"], [f"{OF} {TOO}"]) == [0.0]
    assert duplicate_share([f"{RAM} {OF}", f"{RAM} {TOO}"]) == 0.0
    assert (
        commonest_bigram([f"{RAM} {OF}", f"{RAM} {TOO}", f"{RAM} {TOO}!"]).bigram == f"{RAM} {TOO}"
    )
    known = word_vocabulary([unicodedata.normalize("NFC", "d\u00e9j\u00e0 vu")])
    assert made_up_words([unicodedata.normalize("NFD", "D\u00e9j\u00e0 v")], known) == 0.5


def test_characters_are_counted_as_a_reader_counts_them() -> None:
    for form in ("NFC", "NFD"):
        text = unicodedata.normalize(form, " caf\u00e9 ")
        assert Length(4, unit="characters")(["p"], [text]) == [1.0]
    assert count_characters("\u2764\ufe0f!") == 2


def test_a_lexicon_of_another_language_finds_words_that_end_in_a_mark(tmp_path: Path) -> None:
    good, bad = "\u0905\u091a\u094d\u091b\u0940", unicodedata.normalize("NFD", "rat\u00e9")
    (tmp_path / "words.txt").write_text(f"{good}\t2.0\n{bad}\t-2.0\n", encoding="utf-8")
    lexicon = Lexicon(tmp_path / "words.txt")
    assert lexicon.score(f"\u00ab{good}\u0964\u00bb") == lexicon.score(good) > 0.4
    assert (
        lexicon.score("RAT\u00c9.") == lexicon.score(unicodedata.normalize("NFD", "rat\u00e9")) < 0
    )
