"""Agreement of a reward model with the people who rated the held-out movie reviews."""

from textgym.agents.evaluation.bundled_rewards import crowd
from textgym.envs.tasks.movie_reviews import load_movie_reviews
from textgym.reward_models.human_agreement import HumanAgreement, agreement_with_people
from textgym.rewards import Reward


def agreement_on_reviews(
    reward: Reward, *, texts: int | None = None, seed: int = 0
) -> HumanAgreement:
    """How often a reward model ranks held-out reviews as people did.

    The reviews are those of the splits validation and test (1,537 texts), which the bundled reward
    models have not seen; the baseline is `crowd`, an n-gram model of other reviews' raters.

    :param texts: as `agreement_with_people`'s: a judge that costs something is asked about fewer.
    :raises RewardError: from the reward model.
    """
    reviews = [*load_movie_reviews("validation"), *load_movie_reviews("test")]
    return agreement_with_people(reward, reviews, baseline=crowd(), texts=texts, seed=seed)
