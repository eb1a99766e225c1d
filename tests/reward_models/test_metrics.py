"""Text metrics against counts made by hand and against slow references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import InputError
from textgym.text_metrics.metrics import (
    commonest_bigram,
    commonest_bigram_share,
    distinct_n,
    duplicate_share,
    made_up_words,
    pearson,
    repetition,
    word_vocabulary,
)
from textgym.text_metrics.words import contains_phrase, split_words


def test_words_of_mixed_scripts() -> None:
    assert split_words("Don’t—BLINK, 2 好看 さ ok_no") == ["don't", "blink", "2", "好", "看", "さ", "ok", "no"]  # fmt: skip # noqa: E501
    assert split_words("...!") == []


def test_contains_phrase_needs_neighbours() -> None:
    assert contains_phrase(["a", "b", "c"], ["b", "c"])
    assert not contains_phrase(["a", "b", "c"], ["a", "c"])


def test_distinct_n_over_all_texts_together() -> None:
    # bigrams: a b, b a | a b: 2 distinct of 3
    assert distinct_n(["a b a", "A, b!"], 2) == pytest.approx(2 / 3)
    assert distinct_n(["a"], 2) == 0.0
    assert distinct_n(["电影电影"], 2) == pytest.approx(2 / 3)


def test_repetition_within_one_text() -> None:
    assert repetition("a b a b", 2) == pytest.approx(1 / 3)
    assert repetition("a", 2) == 0.0


@given(st.lists(st.text(alphabet="ab c", max_size=12), max_size=5), st.integers(1, 3))
def test_distinct_n_equals_a_slow_reference(texts: list[str], n: int) -> None:
    grams = []
    for text in texts:
        words = text.split()
        grams += [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
    assert distinct_n(texts, n) == (len(set(grams)) / len(grams) if grams else 0.0)


def test_commonest_bigram_needs_a_content_word() -> None:
    texts = ["of the best, of the best", "of the worst"]
    # "of the" occurs three times but says nothing; "the best" twice in two texts
    assert commonest_bigram(texts) == ("the best", 1.0)
    assert commonest_bigram_share(["it is", ""]) == 0.0


def test_commonest_bigram_ties_are_settled_by_the_alphabet() -> None:
    assert commonest_bigram(["good film", "bad film"]).bigram == "bad film"


def test_made_up_words_and_vocabulary() -> None:
    known = word_vocabulary(["The film", "is good"])
    assert known == {"the", "film", "is", "good"}
    assert made_up_words(["the fulm is good 1999"], known) == 0.25
    assert made_up_words([""], known) == 0.0


def test_duplicate_share_ignores_case_and_punctuation() -> None:
    assert duplicate_share(["A film.", "a film", "another"]) == pytest.approx(1 / 3)
    assert duplicate_share([]) == 0.0


def test_pearson_equals_numpy_and_is_zero_for_a_constant() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=20), rng.normal(size=20)
    assert pearson(a.tolist(), b.tolist()) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert pearson([1.0, 1.0], [1.0, 2.0]) == 0.0
    with pytest.raises(InputError, match="one length"):
        pearson([1.0], [1.0])
