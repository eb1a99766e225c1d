"""A number and its noun."""

import pytest

from textgym.counts import count_of


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 items"), (1, "1 item"), (2, "2 items"), (12345, "12,345 items")]
)
def test_one_is_in_the_singular(number, words):
    assert count_of(number, "item") == words


def test_a_plural_of_its_own():
    assert [count_of(n, "reply", "replies") for n in (1, 3)] == ["1 reply", "3 replies"]
