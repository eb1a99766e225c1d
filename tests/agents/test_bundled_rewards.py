"""The bundled reward model and the two judges: agreement with people, unit, independence."""

import numpy as np
import pytest

from textgym.agents.evaluation.bundled_rewards import critic, crowd, other_domain_raters
from textgym.agents.evaluation.human_reviews import agreement_on_reviews
from textgym.envs.tasks.movie_reviews import load_critic_snippets, load_movie_reviews, review_texts
from textgym.reward_models.learned.comparisons import RatedTexts
from textgym.reward_models.learned.ngrams import NgramModel
from textgym.reward_models.learned.pairs import mean_ratings, pair_accuracy
from textgym.reward_models.rules.rules import Length
from textgym.rewards import call_reward, reward_name
from textgym.rewards_by_name import resolve_reward
from textgym.text_metrics.metrics import pearson


@pytest.mark.parametrize(
    ("name", "least_r", "least_accuracy"),
    [("crowd", 0.48, 0.60), ("critic", 0.53, 0.57), ("other_raters", 0.36, 0.56)],
)
def test_agreement_with_people_on_the_test_split(
    name: str, least_r: float, least_accuracy: float
) -> None:
    makers = {"crowd": crowd, "critic": critic, "other_raters": other_domain_raters}
    model: NgramModel = makers[name]()
    assert reward_name(model) == name
    reviews = load_movie_reviews("test")
    scores = model([""] * len(reviews), [review.text for review in reviews])
    assert pearson(scores, mean_ratings(reviews).tolist()) > least_r
    pairs = RatedTexts(reviews).pairs(np.random.default_rng(0), draws=8)
    assert pair_accuracy(scores, pairs) > least_accuracy
    flipped = [-score for score in scores]
    assert pair_accuracy(flipped, pairs) < 0.5


def test_units_are_human_reviews() -> None:
    heldout = review_texts("validation") + review_texts("test")
    for judge in (critic(), other_domain_raters()):
        scores = judge.score(heldout)
        assert (scores.mean(), scores.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))
    scores = crowd().score(review_texts("judge"))
    assert (scores.mean(), scores.std()) == (pytest.approx(0, abs=1e-9), pytest.approx(1))


def test_the_judge_shares_no_movie_and_no_text_with_what_the_crowd_learned_from() -> None:
    learned = load_movie_reviews("reward_model")
    judged = [*load_movie_reviews("judge"), *load_critic_snippets("judge")]
    movies = {review.movie for review in learned if review.movie}
    assert movies.isdisjoint({item.movie for item in judged if item.movie})
    assert {item.text for item in learned}.isdisjoint({item.text for item in judged})


def test_they_tell_praise_from_scorn_and_are_fitted_once() -> None:
    for maker in (crowd, critic, other_domain_raters):
        praise, scorn = maker()(
            ["The film is", "The film is"],
            [" a moving, beautiful and funny work.", " a dull, boring and awful mess."],
        )
        assert praise > scorn + 0.5
        assert maker() is maker()


def test_held_out_reviews_show_that_length_is_no_taste():
    result = agreement_on_reviews(Length(10_000), texts=400)
    assert result.low < 0.5 < result.high
    assert result.accuracy < result.baseline < result.rater_vs_rater < result.rater_vs_rest


def test_the_floor_under_the_length_is_where_it_is_said_to_be() -> None:
    nine = "a moving and funny film about two old friends."
    paid = {}
    for name in ("floored_crowd", "floored_crowd,words=11", "floored_crowd,words=8"):
        answer = call_reward(resolve_reward(name), [""], [nine], {})
        paid[name] = float(answer.components["shortness"][0]), float(answer.scores[0])
    assert paid["floored_crowd"] == paid["floored_crowd,words=11"]
    assert paid["floored_crowd"][0] == pytest.approx(-2 / 7)
    assert paid["floored_crowd,words=8"][0] == 0
    assert paid["floored_crowd,words=8"][1] == pytest.approx(paid["floored_crowd"][1] + 2 / 7)
