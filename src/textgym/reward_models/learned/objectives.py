"""What a learned reward model's score means: how judgements become a loss on raw scores.

| objective | learns from | a score is |
|---|---|---|
| `bradley_terry` | pairs, ties count half | log-odds: P(a wins) = σ(a - b) (Bradley & Terry 1952) |
| `davidson` | pairs with ties | the same, P(tie) ∝ ν · √(P(a) · P(b)) (Davidson 1970) |
| `regression` | ratings | the mean rating, standardised, with normal noise |
| `classifier` | ratings above or below a threshold | log-odds of a rating above it |
| `ordinal` | ratings of few levels | a latent place: P(y ≤ k) = σ(θₖ - s) (McCullagh 1980) |

Davidson, "On Extending the Bradley-Terry Model to Accommodate Ties in Paired Comparison
Experiments", JASA 65; McCullagh, "Regression Models for Ordinal Data", JRSS B 42.

Legend: `b` texts, `p` pairs, `m` ratings, `k` levels.
"""

from abc import abstractmethod
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import expit, ndtr
from torch import Tensor, nn
from torch.nn import functional as F

from textgym.errors import InputError, unknown_name
from textgym.reward_models.learned.pairs import Pairs, Ratings
from textgym.saved_fields import SavedFields

Scores = npt.NDArray[np.float64]
MOST_LEVELS = 21


class Judged(Protocol):
    """Judgements of b texts."""

    @property
    def pairs(self) -> Pairs:
        """Comparisons, by places in the texts."""

    @property
    def ratings(self) -> Ratings | None:
        """Ratings, by places in the texts; None where people only compared."""


def bradley_terry_loss(score_a: Tensor, score_b: Tensor, label: Tensor) -> Tensor:
    """Mean of -label·log σ(a - b) - (1 - label)·log σ(b - a), for soft labels.

    :param score_a: float [p].
    :param score_b: float [p].
    :param label: float [p] in [0, 1], probability that a is the better one; .5 for a tie.
    :returns: a float tensor without dimensions. Its gradient by a is (σ(a - b) - label) / p.
    """
    return F.binary_cross_entropy_with_logits(score_a - score_b, label.to(score_a.dtype))


class Objective(nn.Module):
    """A likelihood of judgements, given raw scores; its own parameters are fitted with the model's.

    A subclass names itself, says what it is made from, and has the two methods below.
    """

    name: ClassVar[str]

    @classmethod
    def of(cls, ratings: Ratings | None) -> Self:
        """The objective for training rows with these ratings; None for preferences.

        :raises InputError: if it cannot learn from such rows.
        """
        return cls()

    @abstractmethod
    def loss(self, scores: Tensor, judged: Judged) -> Tensor:
        """Mean negative log-likelihood.

        :param scores: float [b], raw.
        :returns: a float tensor without dimensions.
        """

    @abstractmethod
    def win_probability(self, first: Scores, second: Scores) -> Scores:
        """Float64 [p], probability that the first text wins a pair that somebody decides.

        :param first, second: float64 [p], raw scores.
        """

    def settings(self) -> dict[str, Any]:
        """JSON values from which `read` makes it again, but for its parameters."""
        return {}

    @classmethod
    def read(cls, fields: SavedFields) -> Self:
        """What `settings` gave.

        :raises InputError: naming a field that is missing or of another type.
        """
        return cls()


class BradleyTerry(Objective):
    """Pairs; a tie is half a win for each."""

    name = "bradley_terry"

    def loss(self, scores: Tensor, judged: Judged) -> Tensor:
        """See `bradley_terry_loss`."""
        first, second, label = _on(scores, judged.pairs)
        return bradley_terry_loss(scores[first], scores[second], label)

    def win_probability(self, first: Scores, second: Scores) -> Scores:
        """σ(a - b)."""
        return np.asarray(expit(first - second))


class Davidson(Objective):
    """Pairs with ties as a third outcome, after Davidson 1970, equations 2.4 and 2.5.

    With d = a - b the outcomes win, tie and loss are as exp(d/2) : ν : exp(-d/2). ν is fitted.
    """

    name = "davidson"

    def __init__(self) -> None:
        super().__init__()
        self.log_nu = nn.Parameter(torch.zeros(()))

    def loss(self, scores: Tensor, judged: Judged) -> Tensor:
        """Cross entropy of the three outcomes."""
        first, second, label = _on(scores, judged.pairs)
        tie = torch.from_numpy(judged.pairs.tie_share).to(scores.device, scores.dtype)
        half = (scores[first] - scores[second]) / 2
        logits = torch.stack([half, self.log_nu.to(half.dtype).expand_as(half), -half], dim=1)
        label = label.to(scores.dtype)
        wanted = torch.stack([label - tie / 2, tie, 1 - label - tie / 2], dim=1)  # [p, 3]
        return -(wanted * F.log_softmax(logits, dim=1)).sum(dim=1).mean()

    def win_probability(self, first: Scores, second: Scores) -> Scores:
        """σ(a - b): of the pairs that are no ties."""
        return np.asarray(expit(first - second))


class Regression(Objective):
    """Every rating is normal about its text's score, in standard deviations of all ratings.

    :param mean, std: of the training ratings.
    """

    name = "regression"

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.mean, self.std = float(mean), float(std)
        self.log_noise = nn.Parameter(torch.zeros(()))

    @classmethod
    def of(cls, ratings: Ratings | None) -> Self:
        """From the training ratings' mean and spread."""
        values = _rated(ratings, cls.name).values
        return cls(float(values.mean()), float(values.std()))

    def loss(self, scores: Tensor, judged: Judged) -> Tensor:
        """Mean of log σ + (z - s)² / 2σ² over all ratings; σ is fitted."""
        owners, values = _ratings_on(scores, judged, self.name)
        noise = self.log_noise.to(scores.dtype)
        error = (values - self.mean) / self.std - scores[owners]
        return (noise + error.square() / 2 * torch.exp(-2 * noise)).mean()

    def win_probability(self, first: Scores, second: Scores) -> Scores:
        """Φ((a - b) / σ√2): one rater's two ratings (Thurstone's case V)."""
        noise = float(self.log_noise.detach().exp())
        return np.asarray(ndtr((first - second) / (noise * 2**0.5)))

    def settings(self) -> dict[str, Any]:
        """Mean and spread."""
        return {"mean": self.mean, "std": self.std}

    @classmethod
    def read(cls, fields: SavedFields) -> Self:
        """See `Objective`."""
        return cls(fields.number("mean"), fields.number("std", above=0))


class Classifier(Objective):
    """A rating above a threshold is a yes, one below it a no, one at it half of each.

    :param threshold: default: the middle between the lowest and the highest training rating, so 0
        and 1 are no and yes.
    """

    name = "classifier"

    def __init__(self, threshold: float = 0.5) -> None:
        super().__init__()
        self.threshold = float(threshold)

    @classmethod
    def of(cls, ratings: Ratings | None) -> Self:
        """With the middle of the training ratings."""
        values = _rated(ratings, cls.name).values
        return cls(float(values.min() + values.max()) / 2)

    def loss(self, scores: Tensor, judged: Judged) -> Tensor:
        """Logistic loss of all ratings."""
        owners, values = _ratings_on(scores, judged, self.name)
        target = (torch.sign(values - self.threshold) + 1) / 2
        return F.binary_cross_entropy_with_logits(scores[owners], target)

    def win_probability(self, first: Scores, second: Scores) -> Scores:
        """σ(a - b): odds of (yes, no) against (no, yes)."""
        return np.asarray(expit(first - second))

    def settings(self) -> dict[str, Any]:
        """The threshold."""
        return {"threshold": self.threshold}

    @classmethod
    def read(cls, fields: SavedFields) -> Self:
        """See `Objective`."""
        return cls(fields.number("threshold"))


class Ordinal(Objective):
    """Ratings are levels in an order, the steps between them are fitted (cumulative logit).

    :param levels: the different ratings, ascending, 2 to 21 of them.
    :param shares: of the training ratings at each level, from which the thresholds start.
    :raises InputError: for other numbers of levels.
    """

    name = "ordinal"

    def __init__(self, levels: npt.ArrayLike, shares: npt.ArrayLike | None = None) -> None:
        super().__init__()
        self.levels = np.asarray(levels, np.float64)
        k = len(self.levels)
        if not 2 <= k <= MOST_LEVELS or not (np.diff(self.levels) > 0).all():
            raise InputError(
                f"an ordinal objective needs 2 to {MOST_LEVELS} different ratings, ascending, got "
                f"{k}: round the ratings, or take the objective 'regression'"
            )
        given = np.full(k, 1 / k) if shares is None else np.asarray(shares, np.float64)
        below = np.cumsum(given)[:-1]
        cuts = np.log(below / (1 - below))
        gaps = np.maximum(np.diff(cuts), 1e-3)
        self.lowest = nn.Parameter(torch.tensor(cuts[0], dtype=torch.float32))
        self.log_gaps = nn.Parameter(torch.tensor(np.log(gaps), dtype=torch.float32))

    @classmethod
    def of(cls, ratings: Ratings | None) -> Self:
        """With the levels that occur among the training ratings."""
        values = _rated(ratings, cls.name).values
        levels, counts = np.unique(values, return_counts=True)
        return cls(levels, counts / counts.sum())

    def thresholds(self) -> Tensor:
        """Float [k - 1], ascending."""
        return self.lowest + F.pad(self.log_gaps.exp().cumsum(dim=0), (1, 0))

    def level_probabilities(self, scores: Tensor) -> Tensor:
        """Float [b, k], of each level."""
        below = torch.sigmoid(self.thresholds().to(scores.dtype) - scores[:, None])
        return torch.diff(F.pad(F.pad(below, (1, 0)), (0, 1), value=1.0), dim=1)

    def loss(self, scores: Tensor, judged: Judged) -> Tensor:
        """Mean of -log P(level); a level that was never seen in training counts as the nearest."""
        owners, values = _ratings_on(scores, judged, self.name)
        known = torch.from_numpy(self.levels).to(values)
        level = (values[:, None] - known).abs().argmin(dim=1)
        chances = self.level_probabilities(scores)[owners, level]
        return -chances.clamp_min(1e-9).log().mean()

    def win_probability(self, first: Scores, second: Scores) -> Scores:
        """P(level a > level b), of the pairs that are no ties."""
        with torch.no_grad():
            one, other = (
                self.level_probabilities(torch.from_numpy(np.asarray(s))).numpy()
                for s in (first, second)
            )
        above = (one[:, 1:] * other.cumsum(axis=1)[:, :-1]).sum(axis=1)
        below = (other[:, 1:] * one.cumsum(axis=1)[:, :-1]).sum(axis=1)
        return np.asarray(above / np.maximum(above + below, 1e-300))

    def settings(self) -> dict[str, Any]:
        """The levels."""
        return {"levels": self.levels.tolist()}

    @classmethod
    def read(cls, fields: SavedFields) -> Self:
        """See `Objective`."""
        levels = fields.items("levels")
        if not all(isinstance(x, int | float) and abs(x) < 1e300 for x in levels):
            raise fields.error("levels", "a list of numbers")
        return cls(levels)


OBJECTIVES: dict[str, type[Objective]] = {
    cls.name: cls for cls in (BradleyTerry, Davidson, Regression, Classifier, Ordinal)
}


def objective_named(name: str) -> type[Objective]:
    """The objective of a name.

    :raises UnknownNameError: no such objective.
    """
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    return OBJECTIVES[name]


def _on(scores: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor, Tensor]:
    """First, second and label on the scores' device."""
    first, second, label = (
        torch.from_numpy(part).to(scores.device)
        for part in (pairs.first, pairs.second, pairs.label)
    )
    return first, second, label


def _rated(ratings: Ratings | None, name: str) -> Ratings:
    if ratings is None:
        raise InputError(
            f"the objective {name!r} learns from ratings, got preferences: take 'bradley_terry' or "
            "'davidson'"
        )
    if not ratings.values.std() > 0:
        raise InputError(f"the objective {name!r} needs different ratings, got one value only")
    return ratings


def _ratings_on(scores: Tensor, judged: Judged, name: str) -> tuple[Tensor, Tensor]:
    """Owners int64 [m] and values [m] on the scores' device."""
    if judged.ratings is None:
        _rated(None, name)
    assert judged.ratings is not None
    owners = torch.from_numpy(judged.ratings.owners).to(scores.device)
    return owners, torch.from_numpy(judged.ratings.values).to(scores.device, scores.dtype)
