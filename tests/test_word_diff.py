"""The word diff: both texts come back from it, and Chinese is compared by character."""

import hypothesis
import pytest
from hypothesis import strategies

from textgym.text_metrics.word_diff import likeness, word_diff, words


def test_words_and_marks_stand_alone_and_so_do_characters():
    assert words("It's a gem, 3.5 of 5") == [
        *("It", "'", "s", " ", "a", " ", "gem", ",", " "),
        *("3", ".", "5", " ", "of", " ", "5"),
    ]
    assert words("这部film很好。") == ["这", "部", "film", "很", "好", "。"]


def test_what_differs_is_said_word_by_word():
    assert word_diff("a fine film", "a dull film") == [
        ("same", "a "),
        ("removed", "fine"),
        ("added", "dull"),
        ("same", " film"),
    ]
    assert word_diff("这部电影很好", "这部电影不好") == [
        ("same", "这部电影"),
        ("removed", "很"),
        ("added", "不"),
        ("same", "好"),
    ]
    assert word_diff("", "new") == [("added", "new")]


@hypothesis.given(strategies.text(max_size=30), strategies.text(max_size=30))
def test_both_texts_come_back(before, after):
    parts = word_diff(before, after)
    assert "".join(part for kind, part in parts if kind != "added") == before
    assert "".join(part for kind, part in parts if kind != "removed") == after


def test_likeness_is_the_share_of_common_words():
    assert likeness("a b", "a b") == 1
    assert likeness("a b", "c d") == pytest.approx(2 / 6)  # the space: 2 · 1 of 3 + 3
    assert likeness("很好", "不好") == 0.5
