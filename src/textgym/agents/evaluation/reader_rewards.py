"""Rewards that read a model or a corpus from a file: fluency under a frozen reader, and novelty.

Reward models know neither language models of ours nor files of texts: the two meet here.
"""

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from textgym.agents.evaluation.readers import REVIEWS, ModelReader
from textgym.envs.tasks.movie_reviews import TRAINING_SPLITS, review_texts
from textgym.envs.texts.corpus import read_texts
from textgym.paths import model_directory
from textgym.policies.language_model.architectures import opens_here
from textgym.policies.language_model.language_model import LanguageModel
from textgym.policies.language_model.models_by_name import open_policy
from textgym.reward_models.learned.ngram_reader import NgramReader
from textgym.reward_models.rules.fluency import Fluency, Reader
from textgym.reward_models.rules.novelty import Novelty
from textgym.reward_models.rules.transformers_reader import TransformersReader
from textgym.storage import read_json


def fluency(model: LanguageModel | str | Path = "start", *, limit: float = 8.0) -> Fluency:
    """Fluency under a frozen language model, in [-limit, 0]; see `Fluency`.

    :param model: one of ours or its directory, "start" (the bundled one), or a directory of any
        causal model of transformers', for which the extra must be installed. A policy that began as
        this model is near it already: take a better one.
    :param limit: the floor, in bits per character.
    :raises InputError: for a directory that holds no language model.
    """
    return Fluency(_reader(model), limit=limit, name="fluency")


def ngram_fluency(
    corpus: str | Path = REVIEWS, *, column: str = "text", order: int = 3, limit: float = 8.0
) -> Fluency:
    """Fluency under n-grams of words and letters of a corpus, in [-limit, 0]; see `Fluency`.

    :param corpus: a .txt, .jsonl or .csv file; "reviews": the bundled ones that language models may
        see. Keep the reader that judges a run ("reviews" of `evaluate`) another one.
    :param column: of a .jsonl or .csv file.
    :param order: words of the longest n-gram.
    :param limit: the floor, in bits per character.
    :raises InputError: for a file that cannot be read, or an order below 1.
    """
    reader = NgramReader(list(corpus_texts(corpus, column)), order=order)
    return Fluency(reader, limit=limit, name="ngram_fluency")


def novelty(corpus: str | Path = REVIEWS, *, column: str = "text", n: int = 4) -> Novelty:
    """The share of n-grams that a corpus does not hold, in [0, 1]; see `Novelty`.

    :param corpus, column: as `ngram_fluency`'s; best what the policy was trained on.
    :param n: words of an n-gram.
    :raises InputError: for a file that cannot be read, or n below 1.
    """
    return Novelty(corpus_texts(corpus, column), n=n)


def _reader(model: LanguageModel | str | Path) -> Reader:
    if isinstance(model, str | Path) and str(model) != "start":
        place = model_directory(model)
        path = place / "config.json"
        if path.is_file() and not opens_here(read_json(path), path):
            return TransformersReader(place)
    return ModelReader(open_policy(model, label="model"), name="fluency")


def corpus_texts(corpus: str | Path, column: str) -> Iterable[str]:
    """The texts of a file, or the bundled ones that language models may see.

    :raises InputError: for a file that cannot be read.
    """
    if str(corpus) == REVIEWS:
        return _bundled_texts()
    return read_texts(str(corpus), column=column)


@lru_cache(maxsize=1)
def _bundled_texts() -> list[str]:
    return [text for split in TRAINING_SPLITS for text in review_texts(split)]
