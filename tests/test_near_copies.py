"""Near-copies: found where a slow and exact search finds them, whatever the number of texts."""

import unicodedata
from itertools import combinations

import numpy as np
import pytest

from textgym.near_copies import equal_text_groups, joined, merged, near_copy_groups, text_key


def index(one: str, other: str) -> float:
    """Jaccard's index of the character 5-grams of two keys, by sets."""
    a, b = (
        {key[i : i + 5] for i in range(max(1, len(key) - 4))}
        for key in (text_key(one), text_key(other))
    )
    return len(a & b) / len(a | b)


def random_texts(count: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghij"), 4)) for _ in range(200)]
    return [" ".join(rng.choice(words, 10)) for _ in range(count)]


def test_what_differs_in_case_spaces_punctuation_or_normal_form_is_equal() -> None:
    nfd = unicodedata.normalize("NFD", "caf\u00e9")
    texts = ["Caf\u00e9 now.", "other", f"{nfd}, NOW!", "?", "!", "?"]
    assert equal_text_groups(texts).tolist() == [0, 1, 0, 3, 4, 3]
    assert near_copy_groups(texts).tolist() == [0, 1, 0, 3, 4, 3]
    assert near_copy_groups([]).tolist() == []


def test_marks_tell_texts_apart() -> None:
    assert equal_text_groups(["\u0930\u093e\u092e \u0915\u0940", "\u0930\u093e\u092e \u0915\u093e"]).tolist() == [0, 1]  # fmt: skip # noqa: E501


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The film was a great success at home.", "The film was a great success at home, twice."),
        ("one two three four five six seven eight", "one two three four five six seven nine"),
        (
            "\u9019\u90e8\u96fb\u5f71\u7684\u5287\u60c5\u975e\u5e38\u7cbe\u5f69\u6f14\u54e1\u4e5f\u597d",
            "\u9019\u90e8\u96fb\u5f71\u7684\u5287\u60c5\u975e\u5e38\u7cbe\u5f69\u6f14\u54e1\u4e5f\u5dee",
        ),
    ],
)
def test_a_small_edit_is_a_near_copy(one: str, other: str) -> None:
    assert near_copy_groups([one, *random_texts(30, 0), other]).tolist()[-1] == 0


def test_it_finds_what_an_exact_search_finds() -> None:
    rng = np.random.default_rng(1)
    texts = random_texts(150, 1)
    for text in texts[:100]:  # one to four of ten words changed: indices on both sides of .5
        words, others = text.split(" "), random_texts(1, int(rng.integers(1e6)))[0].split(" ")
        changed = rng.choice(10, int(rng.integers(1, 5)), replace=False)
        texts.append(" ".join(others[k] if k in changed else word for k, word in enumerate(words)))
    groups = near_copy_groups(texts)
    pairs = list(combinations(range(len(texts)), 2))
    near = [(i, j) for i, j in pairs if index(texts[i], texts[j]) >= 0.5]
    sure = [(i, j) for i, j in near if index(texts[i], texts[j]) >= 0.55]
    assert 20 < len(sure) < len(near) < 80
    assert all(groups[i] == groups[j] for i, j in sure)
    exact = joined(np.arange(len(texts)), near)  # chance may miss a pair at the very edge
    assert (exact[groups] == exact).all() and len(set(groups)) <= len(set(exact)) + 2


def test_chains_of_edits_are_one_group_and_its_number_is_its_first_place() -> None:
    words = random_texts(1, 3)[0].split(" ")
    chain = [" ".join([*words[:k], *("new" + w for w in words[k:])]) for k in range(10, 3, -1)]
    groups = near_copy_groups(["something else altogether", *chain])
    assert groups.tolist() == [0, *[1] * len(chain)]
    assert index(chain[0], chain[-1]) < 0.5


def test_a_thousand_texts_of_one_template_are_found_without_comparing_all_pairs() -> None:
    texts = [f"The reviewer number {k} liked the film very much, he said." for k in range(1000)]
    assert set(near_copy_groups(texts).tolist()) == {0}


def test_joining_and_merging_name_the_first_place() -> None:
    assert joined(np.array([7, 7, 3, 9]), [(2, 3)]).tolist() == [0, 0, 2, 2]
    assert joined(np.array([7, 7, 3, 9]), [(3, 1)]).tolist() == [0, 0, 2, 0]
    assert merged(np.array([0, 1, 1, 3]), np.array([5, 5, 6, 8])).tolist() == [0, 0, 0, 3]
