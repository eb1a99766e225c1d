"""Held-out rows: the share that was asked for, and nothing that stands on the other side too."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from textgym.errors import InputError
from textgym.near_copies import near_copy_groups
from textgym.splits import Split, split_rows


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def texts(count: int, seed: int = 0) -> list[str]:
    """Texts that have nothing to do with one another."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz "))
    return ["".join(rng([seed, k]).choice(letters, 40)) for k in range(count)]


def sides(split: Split) -> tuple[int, int]:
    return int((~split.is_heldout).sum()), int(split.is_heldout.sum())


def alone(rows: list[str], share: float, seed: int = 0) -> Split:
    return split_rows([""] * len(rows), [(row,) for row in rows], share, rng(seed))


@pytest.mark.parametrize(
    ("rows", "share", "held"),
    [(10, 0.1, 1), (14, 0.1, 1), (16, 0.1, 2), (1000, 0.1, 100), (2, 0.05, 1), (40, 0.5, 20)],
)
def test_a_tenth_is_a_tenth(rows: int, share: float, held: int) -> None:
    for seed in range(3):
        assert sides(alone(texts(rows), share, seed)) == (rows - held, held)


def test_the_generator_decides_which() -> None:
    rows = texts(100)
    first, again, other = (alone(rows, 0.1, seed).is_heldout for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


@given(st.integers(0, 1000), st.integers(5, 40), st.sampled_from([0.1, 0.25, 0.5]))
def test_no_near_copy_crosses_and_the_share_is_near(seed: int, base: int, share: float) -> None:
    generator = rng(seed)
    rows = texts(base, seed)
    for text in list(rows):
        for _ in range(int(generator.integers(0, 3))):
            place = int(generator.integers(40))
            rows.append(f"{text[:place]}?{text[place + 1 :]}".upper())
    split = alone(rows, share, seed)
    groups = near_copy_groups(rows)
    assert not set(groups[~split.is_heldout]) & set(groups[split.is_heldout])
    assert abs(split.is_heldout.sum() - share * len(rows)) <= 2


def test_large_groups_do_not_make_the_share_larger() -> None:
    """One block of 90 rows and ten of one: a hash of the blocks would hold out 1 or 90 rows."""
    blocks = np.array([0] * 90 + list(range(90, 100)))
    rows = [(text,) for text in texts(100)]
    split = split_rows([""] * 100, rows, 0.1, rng(), blocks=blocks)
    assert sides(split) == (90, 10)
    assert not split.is_heldout[:90].any()


def test_blocks_that_share_a_text_are_one_group() -> None:
    rows = texts(40)
    rows[7] = rows[33].replace(" ", "  ").upper()  # blocks 1 and 6
    blocks = np.arange(40) // 5
    for seed in range(20):
        split = split_rows([""] * 40, [(row,) for row in rows], 0.25, rng(seed), blocks=blocks)
        assert sides(split) == (30, 10)
        assert split.is_heldout[7] == split.is_heldout[33]


def test_blocks_that_all_share_a_text_are_divided_and_it_is_said() -> None:
    rows = texts(60)
    for block in range(10):
        rows[6 * block] = "the same opening text for all the raters"
    split = split_rows([""] * 60, [(row,) for row in rows], 0.1, rng(), blocks=np.arange(60) // 6)
    assert sides(split) == (54, 6)
    assert split.note == "note: blocks share texts: their rows are on both sides, but no text is"
    assert not split.is_heldout[::6].any()
    training, held = split.divide(range(60))
    assert sorted([*training, *held]) == list(range(60)) and len(held) == 6


def test_one_text_in_all_preferences_does_not_stop_the_others_from_being_held_out() -> None:
    bad = "a rather long bad answer that is the worse one of every pair"
    rows = [(text, bad) for text in texts(40)]
    rows += rows[:10]
    split = split_rows([f"{k % 40}?" for k in range(50)], rows, 0.1, rng(), by_prompt=True)
    assert sides(split) == (45, 5)
    assert split.note.startswith("note: the same texts stand in most rows: only equal rows are")
    assert (split.is_heldout[:10] == split.is_heldout[40:]).all()


def test_one_prompts_rows_stay_together_where_there_are_enough_prompts() -> None:
    prompts = [f"Question {k % 10}?" for k in range(50)]
    rows = [(text,) for text in texts(50)]
    split = split_rows(prompts, rows, 0.1, rng(), by_prompt=True)
    assert sides(split) == (45, 5)
    assert len({prompts[k] for k in np.flatnonzero(split.is_heldout)}) == 1
    single = split_rows(["Review: "] * 50, rows, 0.1, rng(), by_prompt=True)
    assert sides(single) == (45, 5)
    assert single.note.startswith("note: too few prompts to hold whole ones out")


def test_a_long_completion_is_a_copy_under_any_prompt_and_a_short_one_is_not() -> None:
    prompts = [f"{text} " for text in texts(20)]
    long = "a rather long answer that nobody would write twice by accident"
    rows = [(f"{long}.",) if k % 2 else (text,) for k, text in enumerate(texts(20, 1))]
    for seed in range(10):
        is_held = split_rows(prompts, rows, 0.25, rng(seed)).is_heldout
        assert len(set(is_held[1::2])) == 1
    short = split_rows(prompts, [("Yes.",)] * 20, 0.25, rng())
    assert sides(short) == (15, 5)


def test_a_short_answer_twice_under_one_prompt_is_on_one_side() -> None:
    prompts = [prompt for prompt in texts(20) for _ in range(2)]
    for seed in range(10):
        is_held = split_rows(prompts, [("Yes.",), (" yes",)] * 20, 0.25, rng(seed)).is_heldout
        assert (is_held[::2] == is_held[1::2]).all() and is_held.sum() == 10


def test_a_template_in_all_texts_is_said_and_keeps_equal_texts_together() -> None:
    rows = [f"Rater number {k // 2} found that this film was not worth a visit." for k in range(60)]
    split = alone(rows, 0.1)
    assert split.note.startswith("note: near-copies chain most of these texts: only equal ones")
    assert sides(split) == (54, 6)
    assert (split.is_heldout[::2] == split.is_heldout[1::2]).all()


def test_rows_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(InputError, match="the 6 rows hold too few different texts"):
        alone(["The same text."] * 6, 0.1)
    with pytest.raises(InputError, match="above 0 and below 1, got 1"):
        alone(texts(4), 1.0)
