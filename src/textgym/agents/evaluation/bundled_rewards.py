"""The reward models that come with textgym's data: `crowd`, and two judges it never meets.

`crowd` is what a policy may be trained on, `floored_crowd` the same made fit for it. `critic` and
`other_domain_raters` say whether training helped: they learned from other texts and other people,
and no training may use them. Each is fitted when first asked for, in a second or a few, and is the
same every time.

| name | learned from | texts |
|---|---|---|
| `crowd`, `floored_crowd` | raters' comparisons of reviews | split reward_model |
| `critic` | critics' own verdicts, fresh or rotten | split judge (other movies) |
| `other_raters` | raters of products, editorials, tweets | no movie reviews |
"""

from functools import lru_cache

import numpy as np

from textgym.envs.tasks.movie_reviews import (
    load_critic_snippets,
    load_movie_reviews,
    load_other_domains,
    review_texts,
)
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.learned.ngrams import NgramBradleyTerry, NgramLogistic, NgramRidge
from textgym.reward_models.learned.pairs import rater_pairs
from textgym.reward_models.length_penalties import ShortnessPenalty
from textgym.reward_models.wrappers import Squash
from textgym.rewards import Reward

_RATER_DRAWS = 0  # seed: which rater compares which two texts


@lru_cache(maxsize=1)
def crowd() -> NgramBradleyTerry:
    """What the people who rated movie reviews like, from their pairwise comparisons.

    Bradley-Terry on hashed n-grams over all pairs of texts that the same people rated, in split
    reward_model; 0 and 1 are mean and standard deviation of the reviews of split judge.
    """
    reviews = load_movie_reviews("reward_model")
    pairs = rater_pairs(reviews, np.random.default_rng(_RATER_DRAWS))
    model = NgramBradleyTerry.fit([review.text for review in reviews], pairs, name="crowd")
    return model.standardise(review_texts("judge"))


def with_a_floor(reward_model: Reward, words: float = 11) -> WeightedSum:
    """Taste that a policy can be trained on: squashed to (-2, 2), less a penalty on short texts.

    A taste in standard deviations alone is earned by short texts and by its favourite words.

    :param reward_model: a score in standard deviations of human texts.
    :param words: of a text, below which it is paid less, a seventh a word.
    """
    parts: dict[str, tuple[Reward, float]] = {
        "crowd": (Squash(reward_model, 2.0), 1.0),
        "shortness": (ShortnessPenalty(words=words, divisor=7), 1.0),
    }
    return WeightedSum(parts, name="crowd with a floor")


def floored_crowd(words: float = 11) -> WeightedSum:
    """`crowd`, squashed, with a floor under the length: what `textgym/MovieReview-v0` pays.

    :param words: see `with_a_floor`.
    """
    return with_a_floor(crowd(), words)


@lru_cache(maxsize=1)
def critic() -> NgramLogistic:
    """The independent judge: would a critic who wrote this have liked the film?

    Logistic regression on hashed n-grams over critics' verdicts of the movies of split judge. Its
    unit is the standard deviation of human reviews: 0 is the mean of the held-out ones (splits
    validation and test).
    """
    reviews = load_movie_reviews("judge")
    labelled = [(review.text, review.label) for review in reviews if review.label is not None]
    labelled += [(snippet.text, snippet.label) for snippet in load_critic_snippets("judge")]
    texts = [text for text, _ in labelled]
    labels = [label == "fresh" for _, label in labelled]
    return NgramLogistic.fit(texts, labels, name="critic").standardise(_heldout_texts())


@lru_cache(maxsize=1)
def other_domain_raters() -> NgramRidge:
    """A second judge: people who rated products, newspaper editorials and tweets, not films.

    Ridge regression on hashed n-grams over their mean ratings; unit and zero as `critic`'s.
    """
    rated = [item for items in load_other_domains().values() for item in items]
    texts = [item.text for item in rated]
    ratings = [float(np.mean(item.ratings)) for item in rated]
    return NgramRidge.fit(texts, ratings, name="other_raters").standardise(_heldout_texts())


def _heldout_texts() -> list[str]:
    """Human reviews that nothing was fitted on: the unit of the judges."""
    return review_texts("validation") + review_texts("test")
