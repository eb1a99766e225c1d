"""Rule rewards: hand-computed scores, Chinese, bad arguments."""

import math
from typing import Any

import pytest

from textgym.errors import InputError, RewardError
from textgym.reward_models.rules.lexicon import Lexicon
from textgym.reward_models.rules.rules import Keyword, Length, Regex, Repetition
from textgym.rewards import call_reward, reward_name


def score(reward: Any, *completions: str, **columns: Any) -> list[float]:
    return list(call_reward(reward, ["p"] * len(completions), completions, columns).scores)


def test_length_is_one_at_the_target_and_falls_linearly_to_minus_one() -> None:
    words = Length(target=4)
    assert score(words, "a b c d", "a b", "a b c d e", "", "a " * 50) == [1.0, 0.5, 0.75, 0.0, -1.0]


def test_length_scale_and_characters() -> None:
    assert score(Length(4, unit="characters", scale=2), " abcd ", "abc", "abcdef") == [1, 0.5, 0]


def test_length_counts_each_chinese_character_and_no_punctuation() -> None:
    assert score(Length(target=4), "电影很好!", "电影, 好") == [1.0, 0.75]


@pytest.mark.parametrize("arguments", [{"target": 0}, {"scale": -1.0}, {"unit": "tokens"}])
def test_length_refuses(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        Length(**arguments)


def test_regex_searches_or_matches_the_whole() -> None:
    assert score(Regex(r"\d+"), "born 1999", "born") == [1.0, 0.0]
    assert score(Regex(r"\d+", full=True, miss=-2), " 1999 ", "born 1999") == [1.0, -2.0]
    assert score(Regex("MOON", ignore_case=True, match=3), "the moon") == [3.0]


def test_regex_refuses_what_is_no_pattern() -> None:
    with pytest.raises(InputError, match=r"'\(' is not a regular expression"):
        Regex("(")


def test_keyword_counts_whole_words_and_phrases() -> None:
    reward = Keyword(["art", "New York"])
    texts = ("a party in York, new", "Art!", "ART of new york", "")
    assert score(reward, *texts) == [0.0, 0.5, 1.0, 0.0]


def test_keyword_finds_chinese_words_inside_a_line() -> None:
    assert score(Keyword("电影"), "这电影好", "电和影") == [1.0, 0.0]


def test_keyword_column_differs_by_prompt() -> None:
    assert score(Keyword(), "some tea", "some tea", keyword=["tea", ["sun", "tea"]]) == [1.0, 0.5]


def test_keyword_without_its_column_says_so() -> None:
    with pytest.raises(RewardError, match="needs the prompt column 'keyword', got columns"):
        score(Keyword(), "some tea", topic=["tea"])
    with pytest.raises(InputError, match="at least one"):
        Keyword("...")


@pytest.mark.parametrize("value", [None, 3, [None], [], "..."])
def test_keywords_that_are_none_name_their_row(value: Any) -> None:
    with pytest.raises(RewardError, match=r"^reward model 'keyword' got .*\(prompt 'two'\)$"):
        call_reward(Keyword(), ["one", "two"], ["tea", "tea"], {"keyword": ["tea", value]})


def test_what_is_no_text_is_refused_by_all() -> None:
    for reward in (Length(), Regex("a"), Keyword("a"), Repetition(), Lexicon()):
        with pytest.raises(RewardError, match=r"completion of type NoneType, .*\(prompt 'two'\)$"):
            call_reward(reward, ["one", "two"], ["tea", None], {})  # type: ignore[list-item]


def test_repetition_is_minus_the_share_of_repeated_bigrams() -> None:
    # "the best film of the best": the best, best film, film of, of the, the best: 1 of 5 repeats
    assert score(Repetition(2), "the best film of the best", "one", "") == [
        pytest.approx(-0.2),
        0.0,
        0.0,
    ]
    assert score(Repetition(1), "好好好") == [pytest.approx(-2 / 3)]
    with pytest.raises(InputError, match="n must be above 0"):
        Repetition(0)


def test_names() -> None:
    rewards = (Length(), Regex("a"), Keyword("a"), Repetition())
    assert [reward_name(r) for r in rewards] == ["length", "regex", "keyword", "repetition"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: Length(math.inf),
        lambda: Regex("a", match=math.nan),
        lambda: Regex("a", miss=math.inf),
    ],
)
def test_numbers_that_are_not_finite_are_refused(make):
    with pytest.raises(InputError, match=r"must be (above 0|finite numbers), got"):
        make()
