"""The bundled movie reviews with their human ratings, and the prompts made from them.

Sources, licences and the making of the splits: `envs/data/LICENSES.md` and `docs/data.md`.
Four splits, by movie: `reward_model`, `judge`, `validation`, `test`. Pure standard library.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from textgym.envs.texts.labelled_rows import RatedCompletion
from textgym.errors import unknown_name

Split = Literal["reward_model", "judge", "validation", "test"]
TRAINING_SPLITS: tuple[Split, ...] = ("reward_model", "judge")
OTHER_DOMAINS = ("amazon", "editorials", "tweets")


@dataclass(frozen=True)
class Review:
    """One movie review snippet.

    :param ratings: the raw ratings, -4 (extremely negative) to 4 (extremely positive), 15 to 29.
    :param block: rating task of 30 consecutive snippets. Inside a block, place k of `ratings` is
        one and the same person; across blocks it is not.
    :param movie: an id such as "about_a_boy"; None where it is not known.
    :param label: the critic's own verdict, "fresh" or "rotten"; None where it is not known.
    """

    text: str
    split: Split
    movie: str | None
    block: int
    ratings: tuple[int, ...]
    label: str | None


@dataclass(frozen=True)
class RatedText:
    """A text of another domain with its raw ratings, -4 to 4, by 20 or more people."""

    text: str
    ratings: tuple[int, ...]


@dataclass(frozen=True)
class CriticSnippet:
    """A critic's snippet that nobody rated: only the critic's verdict, "fresh" or "rotten"."""

    text: str
    label: str
    movie: str
    split: Split


def load_movie_reviews(split: Split | None = None) -> list[Review]:
    """The rated reviews of one split, or of all, in the order of their source.

    :raises UnknownNameError: no such split.
    """
    _check_split(split)
    return [review for review in _all_reviews() if split in (None, review.split)]


def load_critic_snippets(split: Split | None = None) -> list[CriticSnippet]:
    """Labelled snippets that are not among the rated reviews; movies keep their split.

    :raises UnknownNameError: no such split.
    """
    _check_split(split)
    rows = (CriticSnippet(**row) for row in _rows("critic_snippets"))
    return [snippet for snippet in rows if split in (None, snippet.split)]


def load_other_domains() -> dict[str, list[RatedText]]:
    """Rated texts about other things: `amazon` products, newspaper `editorials`, `tweets`."""
    return {name: _rated_texts(name) for name in OTHER_DOMAINS}


def review_texts(split: Split | None = None) -> list[str]:
    """The texts of `load_movie_reviews(split)`."""
    return [review.text for review in load_movie_reviews(split)]


def corpus_for_pretraining() -> Iterator[str]:
    """What a language model may see: the splits reward_model and judge, and the Amazon texts."""
    for split in TRAINING_SPLITS:
        yield from review_texts(split)
    for item in _rated_texts("amazon"):
        yield item.text


def training_prompts() -> list[str]:
    """The first two words of every review of the training splits, and the first three, once each.

    A prompt ends at a word's end: the space that follows is the completion's to write.
    """
    texts = [text for split in TRAINING_SPLITS for text in review_texts(split)]
    starts = (_first_words(text, count) for text in texts for count in (2, 3))
    return list(dict.fromkeys(start for start in starts if start is not None))


def validation_prompts(n: int = 200) -> list[str]:
    """`n` three-word prompts of the validation split, to choose settings on.

    Always the same, all different, none a training prompt, from as many movies as can be.
    """
    return _heldout_prompts("validation", n)


def test_prompts(n: int = 500) -> list[str]:
    """`n` three-word prompts of the test split, to report on; made as `validation_prompts`."""
    return _heldout_prompts("test", n)


def rated_continuations(split: Split) -> list[RatedCompletion]:
    """The rated reviews of a split as continuations of their first three words.

    Reviews of fewer than six words are left out. No block: who rated is of no use here.

    :raises UnknownNameError: no such split.
    """
    rows = []
    for review in load_movie_reviews(split):
        start = _first_words(review.text, 3)
        if start is not None:
            ratings = tuple(map(float, review.ratings))
            rows.append(RatedCompletion(review.text[len(start) :], ratings, start))
    return rows


def _heldout_prompts(split: Split, n: int) -> list[str]:
    """One prompt of each movie in turn, so that `n` of them cover as many movies as can be."""
    trained = set(training_prompts())
    by_movie: dict[str, list[str]] = {}
    for review in sorted(load_movie_reviews(split), key=lambda review: _stable_hash(review.text)):
        start = _first_words(review.text, 3)
        if start is not None and start not in trained:
            by_movie.setdefault(review.movie or review.text, []).append(start)
    movies = sorted(by_movie.values(), key=lambda starts: _stable_hash(starts[0]))
    longest = max(map(len, movies), default=0)
    in_turn = (starts[k] for k in range(longest) for starts in movies if k < len(starts))
    return list(dict.fromkeys(in_turn))[:n]


def _first_words(text: str, count: int) -> str | None:
    """The first `count` words; None where fewer than three words would be left to write."""
    words = text.split(" ")
    return " ".join(words[:count]) if len(words) >= count + 3 else None


@cache
def _all_reviews() -> tuple[Review, ...]:
    rows = _rows("movie_reviews")
    return tuple(Review(**{**row, "ratings": tuple(row["ratings"])}) for row in rows)


def _rated_texts(name: str) -> list[RatedText]:
    return [RatedText(row["text"], tuple(row["ratings"])) for row in _rows(name)]


def _rows(name: str) -> Iterator[dict[str, Any]]:
    packed = (resources.files("textgym.envs") / "data" / f"{name}.jsonl.gz").read_bytes()
    return map(json.loads, gzip.decompress(packed).decode("utf-8").splitlines())


def _check_split(split: str | None) -> None:
    if split is not None and split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))


def _stable_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
