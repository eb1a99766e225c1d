"""Chinese sentiment, toxicity and novelty, by hand."""

import pytest

from textgym.errors import InputError
from textgym.reward_models import ChineseSentiment, Novelty, Toxicity
from textgym.rewards import call_reward


def score(reward, *completions):
    return list(call_reward(reward, ["p"] * len(completions), completions, {}).scores)


def compound(total):
    return pytest.approx(total / (total * total + 15) ** 0.5)


def test_chinese_valences_with_degree_and_negation():
    texts = ("好", "非常好", "有点差", "没有失望", "好像", "", "film")
    expected = [2.0, 2.0 * 1.5, -2.0 * 0.6, -2.0 * -0.74, 0.0, 0.0, 0.0]
    assert score(ChineseSentiment(), *texts) == [compound(total) for total in expected]


def test_chinese_words_are_the_longest_of_the_list_and_clauses_are_apart():
    # 不好 is a word of the list (-2); the 不 of another clause turns nothing
    assert score(ChineseSentiment(), "不好", "不，好") == [compound(-2.0), compound(2.0)]
    # 漂亮 2.5 counts half, 差 -2 once and a half after 但; two marks raise the size
    total = 2.5 * 0.5 - 2.0 * 1.5 - 2 * 0.292
    assert score(ChineseSentiment(), "漂亮，但差！！") == [compound(total)]


def test_an_own_chinese_list(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("牛\t3\n蜗牛\t0\n", encoding="utf-8")
    assert score(ChineseSentiment(path), "牛", "蜗牛", "好") == [compound(3.0), 0.0, 0.0]
    path.write_text("牛 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1: expected token<TAB>valence"):
        ChineseSentiment(path)


def test_toxic_words_are_whole_words_phrases_and_beginnings(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("# mine\ndarn\ngo away\ngo\nheck*\n坏人\n", encoding="utf-8")
    reward = Toxicity(path, limit=2)
    texts = (
        "Darn it",
        "darned",
        "go away",
        "heckler, DARN",
        "大坏人",
        "坏的人",
        "",
        "go darn heck",
    )
    assert score(reward, *texts) == [-0.5, 0.0, -0.5, -1.0, -0.5, 0.0, 0.0, -1.0]


def test_the_bundled_words():
    texts = (
        "you IDIOT, go to hell",
        "a fine day in Scunthorpe",
        "王八蛋",
        "the classic assessment",
    )
    assert score(Toxicity(), *texts) == [-1.0, 0.0, -0.5, 0.0]


def test_word_lists_that_are_none(tmp_path):
    path = tmp_path / "words.txt"
    for content, expected in (("", "holds no word"), ("a\n...\n", "line 2: expected a word")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(InputError, match=expected):
            Toxicity(path)
    with pytest.raises(InputError, match=r"cannot read the word list: .*none"):
        Toxicity(tmp_path / "none")
    with pytest.raises(InputError, match="limit must be 1 or above"):
        Toxicity(limit=0)


def test_novelty_is_the_share_of_ngrams_that_the_corpus_has_not():
    reward = Novelty(["The cat sat on the mat."], n=2)
    # the-cat and cat-sat are known, sat-under and under-it are not
    assert score(reward, "The cat, sat under it", "CAT SAT ON", "new words", "cat", "") == [
        0.5,
        0.0,
        1.0,
        0.0,
        0.0,
    ]
    assert score(Novelty(["床前明月光"], n=3), "明月光照", "月明光") == [0.5, 1.0]


def test_novelty_refuses():
    with pytest.raises(InputError, match="no text of the corpus has 4 words"):
        Novelty(["a b c"])
    with pytest.raises(InputError, match="n must be 1 or above"):
        Novelty(["a b c"], n=0)
