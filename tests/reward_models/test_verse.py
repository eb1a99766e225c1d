"""Syllables, rhymes and reading ease, by hand."""

import pytest

from textgym.errors import InputError
from textgym.reward_models import Readability, Rhyme, Syllables
from textgym.reward_models.rules.readability import reading_ease
from textgym.rewards import call_reward
from textgym.text_metrics.syllables import count_syllables, read_pronunciations, rhyme_part

PHONES = """;;; a comment
moon  M UW1 N
june  JH UW1 N
river R IH1 V ER0
liver L IH1 V ER0
over OW1 V ER0
over(2) OW2 V AH0
fire F AY1 ER0
光 g uang1
霜 sh uang1
乡 x iang1
mr M IH S T ER
mister M IH S T ER
"""


@pytest.fixture
def dictionary(tmp_path):
    path = tmp_path / "phones.dict"
    path.write_text(PHONES, encoding="utf-8")
    return path


def score(reward, *completions, prompt="p"):
    return list(call_reward(reward, [prompt] * len(completions), completions, {}).scores)


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("cat", 1), ("water", 2), ("beautiful", 3), ("rhythm", 2), ("table", 2), ("make", 1),
        ("makes", 1), ("wanted", 2), ("walked", 1), ("movie", 2), ("something", 2), ("idea", 3),
        ("violent", 3), ("serious", 3), ("nation", 2), ("create", 2), ("business", 3), ("the", 1),
        ("being", 2), ("happily", 3), ("movement", 2), ("don't", 1), ("it's", 1), ("audience", 3),
        ("好", 1), ("b", 1), ("2026", 4),
    ],
)  # fmt: skip
def test_syllables_by_spelling(word, count):
    assert count_syllables(word) == count  # business is known to be wrong


def test_a_dictionary_knows_better(dictionary):
    phones = read_pronunciations(dictionary)
    assert count_syllables("fire", phones) == 2 and count_syllables("fire") == 1
    assert rhyme_part("river", phones) == rhyme_part("liver", phones) == "IH V ER"
    assert rhyme_part("over", phones) == "OW V ER"  # the first pronunciation
    assert rhyme_part("mr", phones) == "IH S T ER"  # without stress: not from a weak last vowel
    assert rhyme_part("moon") != rhyme_part("june")  # eyes only


def test_a_file_that_is_no_dictionary(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("moon\njune\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"words\.txt, line 1: expected a word and its phones"):
        Rhyme(dictionary=path)
    with pytest.raises(InputError, match=r"cannot read the dictionary: .*none"):
        Syllables(dictionary=tmp_path / "none")


def test_rhyme_counts_the_pairs_of_its_scheme(dictionary):
    poem = "by the light of the moon\nwe sat by the river\nit was late in June\nand cold, my liver"
    assert score(Rhyme("ABAB", dictionary=dictionary), poem) == [1.0]
    assert score(Rhyme("AABB", dictionary=dictionary), poem) == [0.0]
    assert score(Rhyme("ABAB"), poem) == [0.5]  # spelling knows river and liver alone
    aabba = "a bright day\nwe all may\ngo to town\nto the down\nhere to play"
    assert score(Rhyme("AABBA"), aabba) == [1.0]  # four pairs: 1-2, 1-5, 2-5, 3-4


def test_rhyme_lines_that_are_missing_or_repeat_do_not_rhyme():
    assert score(Rhyme("AABB"), "bright day\nwe may", "", "one") == [0.5, 0.0, 0.0]
    assert score(Rhyme("AA"), "the day\nthe day") == [0.0]
    assert score(Rhyme("AA"), "day\nmay\nlight\nnight\nalone") == [pytest.approx(2 / 3)]
    assert score(Rhyme("-A-A"), "x\nday\ny\nmay") == [1.0]


def test_rhyme_in_chinese_and_with_the_prompts_line(dictionary):
    poem = "床前明月光，疑是地上霜。"
    assert score(Rhyme("AA", dictionary=dictionary, line_ends="，。"), poem) == [1.0]
    reward = Rhyme("AA", dictionary=dictionary, include_prompt=True)
    assert score(reward, "in June", prompt="the moon\n") == [1.0]


def test_syllables_of_lines():
    haiku = "an old silent pond\na frog jumps into the pond\nsplash silence again"
    assert score(Syllables("5-7-5"), haiku) == [1.0]
    # 4 of 5 wanted, then nothing: (0.8 + 0 + 0) / 3; a fourth line counts as 0
    assert score(Syllables("5-7-5"), "an old quiet", haiku + "\nmore") == [
        pytest.approx(0.8 / 3),
        pytest.approx(3 / 4),
    ]
    assert score(Syllables("5-5", line_ends="，。"), "床前明月光，疑是地上霜。") == [1.0]
    assert score(Syllables("5-7-5"), "") == [0.0]


def test_reading_ease_by_hand():
    # 6 words, 1 sentence, 6 syllables
    assert reading_ease("The cat sat on the mat.") == pytest.approx(206.835 - 6.09 - 84.6)
    # 5 words in 2 sentences; wa-ter is wet: 4 + ver-y: 2 + cold 1... counted: 2+1+1+2+1 = 7
    assert reading_ease("Water is wet. Very cold!") == pytest.approx(
        206.835 - 1.015 * 2.5 - 84.6 * 7 / 5
    )
    assert reading_ease("It cost 3.50 in the U.S.A. then.") == pytest.approx(
        reading_ease("It cost 350 in the USA then.") or 0, abs=40
    )
    assert reading_ease("...") is None


def test_readability_scores():
    easy, ease = "The cat sat on the mat.", 116.145
    assert score(Readability(), easy, "", "Incomprehensibility characterizes bureaucracy.") == [
        1.0,
        0.0,
        0.0,
    ]
    assert score(Readability(100), easy, "") == [pytest.approx(1 - (ease - 100) / 50), -1.0]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: Rhyme("ABCD"), "scheme must be letters"),
        (lambda: Rhyme("A1A"), "scheme must be letters"),
        (lambda: Syllables("5,7"), "pattern must be"),
        (lambda: Syllables("0-7"), "pattern must be"),
        (lambda: Readability(float("nan")), "target must be a finite"),
    ],
)
def test_bad_arguments(make, expected):
    with pytest.raises(InputError, match=expected):
        make()
