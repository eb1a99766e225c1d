"""The sentiment lexicon: each rule by hand, own word lists, and people's ratings."""

import gzip
from pathlib import Path

import pytest

from textgym.envs.tasks.movie_reviews import load_movie_reviews
from textgym.errors import InputError
from textgym.reward_models.learned.pairs import mean_ratings
from textgym.reward_models.rules.lexicon import Lexicon, bundled_lexicon, read_lexicon
from textgym.text_metrics.metrics import pearson


@pytest.fixture
def lexicon(tmp_path: Path) -> Lexicon:
    path = tmp_path / "words.txt"
    path.write_text("# token\tvalence\ngood\t2.0\nbad\t-2.0\t0.5\n:)\t1.5\n", encoding="utf-8")
    return Lexicon(path)


def compound(total: float) -> float:
    return total / (total * total + 15.0) ** 0.5


@pytest.mark.parametrize(
    ("text", "total"),
    [
        ("good", 2.0),
        ("a bad film", -2.0),
        ("nothing here", 0.0),
        ("", 0.0),
        ("good, bad", 0.0),
        ("good :)", 3.5),
        ("very good", 2.0 + 0.293),
        ("very a good", 2.0 + 0.293 * 0.95),
        ("very bad", -2.0 - 0.293),
        ("slightly good", 2.0 - 0.293),
        ("not good", 2.0 * -0.74),
        ("isn’t a good", 2.0 * -0.74),
        ("not a b c good", 2.0),
        ("a GOOD film", 2.0 + 0.733),
        ("GOOD", 2.0),
        ("good!!", 2.0 + 2 * 0.292),
        ("bad!!!!!!", -2.0 - 4 * 0.292),
        ("good but bad", 1.0 - 3.0),
    ],
)
def test_rules(lexicon: Lexicon, text: str, total: float) -> None:
    assert lexicon.score(text) == pytest.approx(compound(total))


def test_it_scores_the_completion_and_the_prompt_only_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "words.txt.gz"
    path.write_bytes(gzip.compress(b"good\t2\nbad\t-2\n"))
    assert Lexicon(path)(["bad"], [" good"]) == [pytest.approx(compound(2))]
    assert Lexicon(path, include_prompt=True)(["bad"], [" good"]) == [0.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [("good\n", "line 1"), ("a\t1\nb\tx\n", "line 2"), ("a\tnan\n", "line 1"), ("\n", "no word")],
)
def test_a_damaged_word_list_names_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_lexicon(path)


def test_a_missing_word_list_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read the lexicon .*nothing\.txt"):
        read_lexicon(tmp_path / "nothing.txt")


def test_bundled_words_agree_with_people_who_rated_reviews() -> None:
    assert len(bundled_lexicon()) > 7_000
    reviews = load_movie_reviews("judge")
    texts = [review.text for review in reviews]
    scores = Lexicon()([""] * len(texts), texts)
    assert pearson(scores, mean_ratings(reviews).tolist()) > 0.38
