"""The demo's reward: what people preferred, learned in two ways, and the better one taken."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from textgym.agents.building.checkpoint import load_reward
from textgym.agents.evaluation.bundled_rewards import crowd
from textgym.agents.fitting.reward_fitting import fitting_bar
from textgym.envs.tasks.movie_reviews import Review, load_movie_reviews
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.comparisons import comparisons
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.reward_models.learned.fit_report import FitReport
from textgym.reward_models.learned.fitting import fit_reward_model
from textgym.reward_models.learned.ngrams import NgramModel
from textgym.reward_models.learned.pairs import pair_accuracy
from textgym.reward_models.length_penalties import ShortnessPenalty
from textgym.reward_models.wrappers import Squash
from textgym.rewards import Reward

NAME = "crowd"
CrowdModel: TypeAlias = BradleyTerryRewardModel | NgramModel | Ensemble


@dataclass(frozen=True)
class CrowdReport:
    """Which reward model is used, and what else there was.

    :param used: `"trunk and n-grams"`, `"trunk"` or `"n-grams"`.
    :param chosen_on: pair accuracy of each on the judge's movies, by which it was chosen.
    :param pair_accuracy: of the one that is used, on the movies of validation and test.
    :param accuracies: of each there.
    :param fit: of the trunk, beside n-grams and people.
    """

    used: str
    chosen_on: dict[str, float]
    pair_accuracy: float
    accuracies: dict[str, float]
    fit: FitReport

    def figures(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        others = ", ".join(f"{name} {value:.3f}" for name, value in self.accuracies.items())
        return (
            f"pair accuracy on held-out movies: {others}; two people agree on "
            f"{self.fit.rater_vs_rater:.3f}. Used, as the best on other movies: {self.used}"
        )


def fit_crowd(
    start: CausalLM,
    *,
    steps: int,
    learning_rate: float,
    share: float,
    seed: int,
    progress_bar: bool,
) -> tuple[CrowdModel, CrowdReport]:
    """A Bradley-Terry model on a copy of a trunk, n-grams, and the two together; the best of them.

    The best is the one that ranks the ratings of the judge's movies best, from which none of them
    learns; the ratings of the movies of validation and test then say how good it is.

    :param steps: of the trunk's fit.
    :param learning_rate: Muon's, of the trunk's matrices.
    :param share: of the rated reviews that are read.
    """
    rated = _part("reward_model", share)
    choice = _part("judge", share)
    held = [*_part("validation", share), *_part("test", share)]
    judge_texts = [review.text for review in choice]
    trunk = BradleyTerryRewardModel(start.trainable_copy(), seed=seed, name=NAME)
    with fitting_bar(progress_bar, "fitting") as show:
        fit = fit_reward_model(
            trunk,
            rated,
            held,
            seed=seed,
            steps=steps,
            muon_learning_rate=learning_rate,
            evaluations=0,  # nothing is chosen on the held-out ratings: they only report
            standardise_on=judge_texts,
            progress=show,
        )
    models: dict[str, CrowdModel] = {
        "trunk and n-grams": Ensemble([trunk, crowd()], name=NAME).standardise(judge_texts),
        "trunk": trunk,
        "n-grams": crowd(),
    }
    chosen_on = _accuracies(models, choice, seed)
    used = max(models, key=lambda name: chosen_on[name])
    accuracies = _accuracies(models, held, seed)
    return models[used], CrowdReport(used, chosen_on, accuracies[used], accuracies, fit)


def training_reward(reward_model: Reward) -> WeightedSum:
    """What PPO maximises: the crowd's taste, squashed, with a floor under the length."""
    return WeightedSum(
        {
            NAME: (Squash(reward_model, 2.0), 1.0),
            "shortness": (ShortnessPenalty(words=11, divisor=7), 1.0),
        },
        name="crowd with a floor",
    )


def crowd_with_a_floor(model: str) -> WeightedSum:
    """`training_reward` of a reward model's directory, for the command line.

    :raises InputError: if it holds none.
    """
    return training_reward(load_reward(model))


def _part(split: Any, share: float) -> list[Review]:
    """The first rated reviews of a split, whole rating tasks at a time where they are many."""
    reviews = load_movie_reviews(split)
    return reviews[: max(60, round(share * len(reviews)))]


def _accuracies(
    models: dict[str, CrowdModel], reviews: Sequence[Review], seed: int
) -> dict[str, float]:
    """Share of decided pairs that each model ranks as a rater did; the same pairs for all."""
    data = comparisons(reviews)
    pairs = data.pairs(np.random.default_rng([seed, 1]), draws=8)
    trunk, ngrams = (np.asarray(models[name].score(data.texts)) for name in ("trunk", "n-grams"))
    scores = {"trunk and n-grams": (trunk + ngrams) / 2, "trunk": trunk, "n-grams": ngrams}
    return {name: pair_accuracy(scores[name], pairs) for name in models}
