"""The two tasks whose completions can be listed: rewards by hand, and their tokenizer."""

import pytest

import textgym
from textgym.envs.tasks.oracle_tasks import climb, letter_tokenizer, mirror
from textgym.errors import InputError


@pytest.mark.parametrize(
    ("prompt", "text", "reward"),
    [
        ("b", "g", 1.0),
        ("b", "h", 6 / 7),
        ("b", "a", 1 / 7),
        ("g", "b", 1.0),
        ("g", "g", 2 / 7),
        ("a", "a", 0.0),
        ("b", "", 0.0),
        ("b", "gg", 0.0),
        ("b", "z", 0.0),
    ],
)
def test_the_mirror_letter_by_hand(prompt, text, reward):
    assert mirror([prompt], [text]) == [pytest.approx(reward)]


@pytest.mark.parametrize(
    ("prompt", "text", "reward"),
    [
        ("a", "", 0.0),
        ("a", "a", 0.5),  # home, without a climb
        ("a", "b", 0.25),
        ("a", "bcd", 0.75),  # climbs all the way, and never comes home
        ("a", "bca", 1.0),
        ("a", "cdb", 0.25),
        ("c", "abc", 1.0),
        ("c", "dbc", 1.0),
        ("c", "cc", 0.5),
    ],
)
def test_the_climb_by_hand(prompt, text, reward):
    assert climb([prompt], [text]) == [pytest.approx(reward)]


def test_no_letter_of_the_climb_has_a_worth_of_its_own():
    """Were the reward a sum over letters, swapping two tails would change nothing in all."""
    straight = climb(["a"] * 2, ["bc", "ad"])
    swapped = climb(["a"] * 2, ["bd", "ac"])
    assert sum(straight) != pytest.approx(sum(swapped))


def test_rewards_are_batched():
    assert mirror(["b", "g"], ["g", "g"]) == pytest.approx([1.0, 2 / 7])
    assert climb(["a", "c"], ["b", "d"]) == pytest.approx([0.25, 0.25])


def test_the_tokenizer_knows_its_letters_only():
    tokenizer = letter_tokenizer("abcd")
    assert tokenizer.vocab_size == 7
    assert tokenizer.encode("dab") == [6, 3, 4]
    assert tokenizer.encode("b", add_special_tokens=True) == [tokenizer.bos_token_id, 4]
    assert tokenizer.decode([6, 3, 4, tokenizer.eos_token_id]) == "dab"
    with pytest.raises(InputError, match=r"prompts\[1\]: the tokenizer lacks characters of 'x'"):
        textgym.get_task("textgym/FewTokens-v0", prompts=["a", "x"]).prompt_source()
