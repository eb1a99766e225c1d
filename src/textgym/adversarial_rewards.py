"""`--reward adversarial`: a discriminator between a corpus and the policy as a reward, by name."""

from itertools import islice
from pathlib import Path

from textgym.agents.evaluation.reader_rewards import corpus_texts
from textgym.agents.evaluation.readers import REVIEWS
from textgym.errors import InputError
from textgym.policies.language_model.models_by_name import open_policy
from textgym.reward_models.adversarial.adversarial_reward import AdversarialReward
from textgym.reward_models.adversarial.trunk_features import TrunkFeatures
from textgym.reward_models.people.heads import NgramFeatures, TextFeatures

NGRAMS = "ngrams"


def adversarial(
    corpus: str | Path = REVIEWS,
    *,
    column: str = "text",
    features: str | Path = "start",
    every: int = 1,
    replay: int = 1024,
    steps: int = 20,
    learning_rate: float = 0.003,
    lipschitz: float = 16.0,
    smoothing: float = 0.1,
    most: int = 20_000,
    seed: int = 0,
) -> AdversarialReward:
    """How much like a corpus a text reads, to one who has read the policy; see `AdversarialReward`.

    :param corpus: a .txt, .jsonl or .csv file of whole texts; "reviews": the bundled ones that
        language models may see.
    :param column: of a .jsonl or .csv file.
    :param features: the directory of a language model whose mean hidden states they are ("start":
        the bundled one), or "ngrams".
    :param most: texts of the corpus that are read, the first ones.
    :raises InputError: for a file that cannot be read, or as `AdversarialReward`.
    """
    if most < 1:
        raise InputError(f"most must be at least 1, got {most}")
    texts = list(islice(corpus_texts(corpus, column), most))
    of_texts: TextFeatures = (
        NgramFeatures(512)
        if str(features) == NGRAMS
        else TrunkFeatures(open_policy(features, label="features"), texts)
    )
    return AdversarialReward(
        texts,
        of_texts,
        every=every,
        replay=replay,
        steps=steps,
        learning_rate=learning_rate,
        lipschitz=lipschitz,
        smoothing=smoothing,
        seed=seed,
    )
