"""Held-out figures of a reward model: how sure is its accuracy, and does it know how sure it is?

Confidence of a pair is the probability that the model gives to the text it ranks first, .5 to 1. A
calibrated model is right in 70 of 100 pairs of which it is 70% sure (Guo et al. 2017, "On
Calibration of Modern Neural Networks").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from textgym.reward_models.learned.pairs import Pairs
from textgym.reward_models.pair_accuracy import clustered_interval
from textgym.text_metrics.words import split_words

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Bin:
    """Pairs of about the same confidence.

    :param confidence: their mean confidence.
    :param accuracy: share of them that is ranked as people did.
    :param pairs: how many they are.
    """

    confidence: float
    accuracy: float
    pairs: int


def reliability(win: npt.ArrayLike, pairs: Pairs, bins: int = 10) -> tuple[Bin, ...]:
    """The decided pairs in bins of equal width by confidence, without the empty ones.

    :param win: float [p], probability that the first text of each pair wins.
    """
    chance, label = np.asarray(win, np.float64)[pairs.is_decided], pairs.label[pairs.is_decided]
    confidence = np.maximum(chance, 1 - chance)
    hit = np.where(chance == 0.5, 0.5, np.where(chance > 0.5, label, 1 - label))
    place = np.clip(((confidence - 0.5) * 2 * bins).astype(int), 0, bins - 1)
    return tuple(
        Bin(float(confidence[place == k].mean()), float(hit[place == k].mean()), int(count))
        for k, count in enumerate(np.bincount(place, minlength=bins))
        if count
    )


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean over pairs of |confidence - accuracy| of their bin."""
    pairs = sum(part.pairs for part in bins)
    gaps = sum(abs(part.confidence - part.accuracy) * part.pairs for part in bins)
    return gaps / pairs if pairs else math.nan


def accuracy_interval(
    scores: npt.ArrayLike, pairs: Pairs, groups: npt.NDArray[np.int64]
) -> tuple[float, float]:
    """95% interval of the pair accuracy: `clustered_interval` of the decided pairs.

    :param groups: int64 [texts], texts that people judged together.
    :returns: NaN twice where fewer than two groups hold decided pairs.
    """
    values, is_decided = np.asarray(scores, np.float64), pairs.is_decided
    first, second = pairs.first[is_decided], pairs.second[is_decided]
    hits = (
        np.sign(values[first] - values[second]) * np.sign(pairs.label[is_decided] - 0.5) + 1
    ) / 2
    return clustered_interval(hits, groups[first], groups[second])


def length_correlation(scores: npt.ArrayLike, completions: Sequence[str]) -> float:
    """Spearman's rank correlation of scores with the number of words; NaN where one is constant."""
    return _rank_correlation(scores, [len(split_words(text)) for text in completions])


def overlap_correlation(
    scores: npt.ArrayLike, prompts: Sequence[str], completions: Sequence[str]
) -> float:
    """Spearman's correlation of scores with the share of a completion's words that its prompt has.

    :returns: NaN without prompts, or where one of the two is constant.
    """
    shares = []
    for prompt, completion in zip(prompts, completions, strict=True):
        known, words = set(split_words(prompt.lower())), split_words(completion.lower())
        shares.append(sum(word in known for word in words) / max(len(words), 1))
    return _rank_correlation(scores, shares)


def _rank_correlation(one: npt.ArrayLike, other: npt.ArrayLike) -> float:
    first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    if len(first) < 3 or not (np.ptp(first) > 0 and np.ptp(second) > 0):
        return math.nan
    from scipy.stats import spearmanr  # takes a second to import

    return float(spearmanr(first, second).statistic)
