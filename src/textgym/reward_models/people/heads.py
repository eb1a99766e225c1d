"""Small Bradley-Terry models on frozen features: refitted to all answers in about a second.

Each member of an ensemble is one weight per feature, fitted on answers that were drawn with
replacement (the bootstrap of Efron 1979). Where members disagree about a pair, the answers so far
do not decide it. A fit starts at zero and takes all answers, so a model depends on the answers
alone and not on what was fitted before.

Legend: `k` members, `b` texts, `n` answers, `d` features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from textgym.counts import count_of
from textgym.errors import InputError
from textgym.reward_models.learned.features import NgramHasher
from textgym.reward_models.learned.pairs import Pairs
from textgym.saved_fields import SavedFields

Array = npt.NDArray[np.float64]

PRECISION = 8.0  # of the prior on the weights; chosen on pairs of split judge
STEPS = 25  # L-BFGS iterations; stopping early costs nothing that held-out pairs notice
SMALLEST_STD = 1e-9


class TextFeatures(Protocol):
    """Numbers for whole texts that stay as they are while heads are fitted."""

    name: str
    size: int
    """d, the columns."""

    def __call__(self, texts: Sequence[str]) -> Array:
        """float64 [b, d], of texts (prompt and completion as one)."""


class NgramFeatures:
    """Counts of hashed n-grams, thrown into `size` columns with random signs, each row of norm 1.

    Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning": the signs make
    the inner product of two rows that of their n-gram counts, in the mean.

    :param size: columns, a power of two.
    :raises InputError: for a size that is none, or below 256.
    """

    def __init__(self, size: int = 2048) -> None:
        if size < 256 or size & (size - 1):
            raise InputError(f"size must be a power of two from 256, got {size}")
        self.size, self.name = size, f"ngrams-{size}"
        self._hasher = NgramHasher(bits=size.bit_length())  # one more bit than columns: the sign

    def __call__(self, texts: Sequence[str]) -> Array:
        """float64 [b, size], rows of norm 1; zeros for an empty text."""
        found = self._hasher(list(texts))
        rows = np.zeros((len(texts), self.size))
        owners = np.repeat(np.arange(len(texts)), found.counts)
        signs = np.where(found.buckets % 2 == 0, 1.0, -1.0)
        np.add.at(rows, (owners, found.buckets // 2), signs)
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.maximum(norms, 1e-12))


class WithHints:
    """Features, and beside them what other reward models say of a text: one column each.

    A few answers say little about thousands of n-grams, but much about one number that already
    means something. Scores are taken as they are, so they should be of the order of 1.

    :param features: the others.
    :param hints: functions of whole texts, float64 [b] each, by name.
    """

    def __init__(self, features: TextFeatures, hints: Mapping[str, Callable[..., Any]]) -> None:
        self.features, self.hints = features, dict(hints)
        self.name = "+".join([features.name, *self.hints])
        self.size = features.size + len(self.hints)

    def __call__(self, texts: Sequence[str]) -> Array:
        """float64 [b, d + hints]."""
        columns = [np.asarray(hint(texts), np.float64)[:, None] for hint in self.hints.values()]
        return np.concatenate([self.features(texts), *columns], axis=1)


@dataclass(frozen=True)
class Heads:
    """An ensemble of linear scorers of features.

    :param weights: float64 [k, d].
    :param mean: float64 [k], subtracted from each member's score.
    :param std: float64 [k], divides it; above 0.
    """

    weights: Array
    mean: Array
    std: Array

    def scores(self, features: Array) -> Array:
        """float64 [k, b], each member's standardised scores of features [b, d]."""
        return np.asarray((features @ self.weights.T - self.mean).T / self.std[:, None])

    def preferences(self, first: Array, second: Array) -> Array:
        """float64 [k, p], each member's probability that the first text of a pair is the better.

        :param first, second: features [p, d].
        """
        return np.asarray(expit((first - second) @ self.weights.T).T)

    def state_dict(self) -> dict[str, Array]:
        """The numbers, by name."""
        return {"weights": self.weights, "mean": self.mean, "std": self.std}

    @classmethod
    def of_state(cls, state: SavedFields, size: int) -> "Heads":
        """The heads of a saved state.

        :param size: d, the columns of the features.
        :raises InputError: if it is none, or was made with other features.
        """
        weights = state.array("weights", "float64", (None, size))
        mean, std = (state.array(key, "float64", (len(weights),)) for key in ("mean", "std"))
        if not len(weights) or not all(np.isfinite(a).all() for a in (weights, mean, std)):
            raise state.error("weights", "finite numbers of at least one member")
        if not (std > 0).all():
            raise state.error("std", "numbers above 0")
        return cls(weights.copy(), mean.copy(), std.copy())


def fit_heads(
    features: Array,
    pairs: Pairs,
    *,
    members: int = 5,
    seed: int = 0,
    precision: float = PRECISION,
) -> Heads:
    """Minimise, for each member, its summed Bradley-Terry loss + precision/2 · |weights|².

    That is the most probable weights under a normal prior of this precision: the more answers, the
    less it says. Scores are standardised on `features`.

    :param features: float64 [b, d].
    :param pairs: n answers, as places in `features`; a label of .5 is a tie.
    :param members: of the ensemble, at least 1; a single one is fitted on every answer once.
    :param seed: of the draws; member i draws the same whatever the number of members.
    :raises InputError: if no answer decides a pair.
    """
    if members < 1 or not pairs.is_decided.any():
        raise InputError(
            f"fitting needs members and an answer that is no tie, got {members} members and "
            f"{count_of(len(pairs), 'answer')}"
        )
    weights = np.stack(
        [
            _fit_one(features, pairs, _counts(len(pairs), members, seed, member), precision)
            for member in range(members)
        ]
    )
    scores = features @ weights.T  # [b, k]
    return Heads(weights, scores.mean(axis=0), np.maximum(scores.std(axis=0), SMALLEST_STD))


def _counts(answers: int, members: int, seed: int, member: int) -> Array:
    """How often each answer counts for a member, float64 [n] with mean 1."""
    if members == 1:
        return np.ones(answers)
    drawn = np.random.default_rng([seed, member]).integers(answers, size=answers)
    return np.bincount(drawn, minlength=answers).astype(np.float64)


def _fit_one(features: Array, pairs: Pairs, counts: Array, precision: float) -> Array:
    n, texts = len(pairs), len(features)
    l2 = precision / n

    def loss(weights: Array) -> tuple[float, Array]:
        scores = features @ weights
        margin = scores[pairs.first] - scores[pairs.second]
        value = counts @ (np.logaddexp(0.0, margin) - pairs.label * margin) / n
        pull = counts * (expit(margin) - pairs.label) / n
        by_text = np.bincount(pairs.first, pull, texts) - np.bincount(pairs.second, pull, texts)
        return float(value + 0.5 * l2 * weights @ weights), by_text @ features + l2 * weights

    start = np.zeros(features.shape[1])
    from scipy.optimize import minimize  # takes a second to import

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return np.asarray(found.x, np.float64)
