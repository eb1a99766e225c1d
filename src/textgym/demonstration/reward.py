"""The demo's reward: what people preferred, learned in two ways, and the better one taken."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from textgym.agents.building.reward_checkpoint import load_reward
from textgym.agents.evaluation.bundled_rewards import crowd, with_a_floor
from textgym.agents.fitting.reward_fitting import fitting_bar
from textgym.envs.tasks.movie_reviews import Review, load_movie_reviews
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.shallow import first_layers
from textgym.reward_models.composition import WeightedSum
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.comparisons import comparisons
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.reward_models.learned.fit_report import FitReport
from textgym.reward_models.learned.fitting import fit_reward_model
from textgym.reward_models.learned.head_fitting import fit_heads
from textgym.reward_models.learned.ngrams import NgramModel
from textgym.reward_models.learned.pairs import pair_accuracy

NAME = "crowd"
CrowdModel: TypeAlias = BradleyTerryRewardModel | NgramModel | Ensemble
BOTH, TRUNK, NGRAMS = "trunk and n-grams", "trunk", "n-grams"
LAYERS = 0.5  # of a frozen trunk; what stands behind them foretells words, not opinions


@dataclass(frozen=True)
class CrowdReport:
    """Which reward model is used, and what else there was.

    :param used: `"trunk and n-grams"`, `"trunk"` or `"n-grams"`.
    :param chosen_on: pair accuracy of each on the judge's movies, by which it was chosen.
    :param pair_accuracy: of the one that is used, on the movies of validation and test.
    :param accuracies: of each there.
    :param fit: of the trunk, beside n-grams and people; None without a trunk.
    """

    used: str
    chosen_on: dict[str, float]
    pair_accuracy: float
    accuracies: dict[str, float]
    fit: FitReport | None

    def figures(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        others = ", ".join(f"{name} {value:.3f}" for name, value in self.accuracies.items())
        ceiling = "" if self.fit is None else f"two people agree on {self.fit.rater_vs_rater:.3f}. "
        return (
            f"pair accuracy on held-out movies: {others}; {ceiling}Used, as the best on other "
            f"movies: {self.used}"
        )


class Crowd(NamedTuple):
    """A model of what people preferred, and how good it is."""

    model: CrowdModel
    report: CrowdReport


@dataclass(frozen=True)
class RatedReviews:
    """Whose ratings are for what.

    :param learned: to fit to.
    :param choice: of the judge's movies, from which nothing learns: to choose by.
    :param held: of the movies of validation and test: to report on.
    """

    learned: list[Review]
    choice: list[Review]
    held: list[Review]

    @classmethod
    def of(cls, share: float) -> Self:
        """The first of each split, whole rating tasks at a time where they are many."""
        held = [*_part("validation", share), *_part("test", share)]
        return cls(_part("reward_model", share), _part("judge", share), held)

    @property
    def judge_texts(self) -> list[str]:
        """What scores are standardised on."""
        return [review.text for review in self.choice]


def fit_crowd(
    start: LanguageModel,
    *,
    steps: int,
    learning_rate: float,
    share: float,
    seed: int,
    progress_bar: bool,
) -> Crowd:
    """A Bradley-Terry model on a copy of a trunk, n-grams, and the two together; the best of them.

    The best is the one that ranks the ratings of the judge's movies best, from which none of them
    learns; the ratings of the movies of validation and test then say how good it is.

    :param steps: of the trunk's fit.
    :param learning_rate: Muon's, of the trunk's matrices.
    :param share: of the rated reviews that are read.
    """
    reviews = RatedReviews.of(share)
    trunk = BradleyTerryRewardModel(start.trainable_copy(), seed=seed, name=NAME)
    with fitting_bar(progress_bar, "fitting") as show:
        fit = fit_reward_model(
            trunk,
            reviews.learned,
            reviews.held,
            seed=seed,
            steps=steps,
            muon_learning_rate=learning_rate,
            evaluations=0,  # nothing is chosen on the held-out ratings: they only report
            standardise_on=reviews.judge_texts,
            progress=show,
        )
    return best_of(trunk, fit, reviews, seed)


def fit_on_frozen(
    base: LanguageModel,
    *,
    share: float,
    seed: int,
    progress_bar: bool,
    known: dict[str, npt.NDArray[np.float32]] | None = None,
) -> Crowd:
    """A head on the first layers of a trunk that stays as it is, n-grams, and the two together.

    :param base: a model of our own decoder gives `LAYERS` of its layers, another one all.
    :param share: of the rated reviews that are read.
    :param known: mean hidden states of texts that need not be read again.
    """
    reviews = RatedReviews.of(share)
    trunk = BradleyTerryRewardModel(first_layers(base, LAYERS), seed=seed, name=NAME)
    trunk.known = {} if known is None else known
    with fitting_bar(progress_bar, "fitting") as show:
        fit = fit_heads(
            trunk,
            reviews.learned,
            reviews.held,
            seed=seed,
            learning_curve=False,
            standardise_on=reviews.judge_texts,
            progress=show,
        )
    crowd = best_of(trunk, fit, reviews, seed)
    trunk.known = None
    return crowd


def crowd_alone(*, share: float, seed: int) -> Crowd:
    """The n-grams that come along, and nothing else."""
    reviews = RatedReviews.of(share)
    models: dict[str, CrowdModel] = {NGRAMS: crowd()}
    chosen_on, accuracies = (
        _accuracies(models, part, seed) for part in (reviews.choice, reviews.held)
    )
    report = CrowdReport(NGRAMS, chosen_on, accuracies[NGRAMS], accuracies, None)
    return Crowd(models[NGRAMS], report)


def best_of(
    trunk: BradleyTerryRewardModel, fit: FitReport, reviews: RatedReviews, seed: int
) -> Crowd:
    """Of a fitted trunk, n-grams, and the two together what ranks the judge's movies best."""
    models: dict[str, CrowdModel] = {
        BOTH: Ensemble([trunk, crowd()], name=NAME).standardise(reviews.judge_texts),
        TRUNK: trunk,
        NGRAMS: crowd(),
    }
    chosen_on = _accuracies(models, reviews.choice, seed)
    used = max(models, key=lambda name: chosen_on[name])
    accuracies = _accuracies(models, reviews.held, seed)
    return Crowd(models[used], CrowdReport(used, chosen_on, accuracies[used], accuracies, fit))


def crowd_with_a_floor(model: str, words: float = 11) -> WeightedSum:
    """`with_a_floor` of a reward model's directory, for the command line.

    :param words: of a text, below which it is paid less.
    :raises InputError: if it holds none.
    """
    return with_a_floor(load_reward(model), words)


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
    single = [name for name in models if name != BOTH]
    scores = {name: np.asarray(models[name].score(data.texts)) for name in single}
    if BOTH in models:
        scores = {BOTH: (scores[TRUNK] + scores[NGRAMS]) / 2, **scores}
    return {name: pair_accuracy(scores[name], pairs) for name in models}
