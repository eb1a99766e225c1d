"""Linear reward models on hashed n-grams: fitted in a second, without a language model.

Three ways to learn one weight per n-gram, by what people gave: labels (`NgramLogistic`), ratings
(`NgramRidge`) or comparisons (`NgramBradleyTerry`). The score of a text with n n-grams is
bias + sum of its weights / sqrt(n). All are fitted with L-BFGS on a convex loss with an L2 penalty
(`textgym.reward_models.learned.linear`), so a fit has no seed and gives the same model every time.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from textgym.errors import InputError
from textgym.reward_models.learned.features import NgramHasher
from textgym.reward_models.learned.learned_reward import LearnedReward, read_saved, shared_keywords
from textgym.reward_models.learned.linear import fit_linear
from textgym.reward_models.learned.pairs import Pairs
from textgym.saved_fields import SavedFields
from textgym.tensor_files import floating, read_tensors, tensor_shapes, write_tensors

WEIGHTS_FILE = "weights.safetensors"


class NgramModel(LearnedReward):
    """A fitted linear model: a reward model that scores prompt and completion as one text.

    :param weights: float32 [buckets], one per bucket of `hasher`.
    :param bias: added to every raw score.
    :param mean: subtracted from raw scores, see `standardise`.
    :param std: divides them; above 0.
    :param name: its name in logs.
    :param include_prompt: score prompt + completion; False scores the completion alone.
    :raises InputError: if the number of weights is not the hasher's number of buckets, or a number
        is not finite.
    """

    kind = "ngram"

    def __init__(
        self,
        weights: Tensor,
        bias: float = 0.0,
        *,
        hasher: NgramHasher | None = None,
        mean: float = 0.0,
        std: float = 1.0,
        name: str | None = None,
        include_prompt: bool = True,
    ) -> None:
        self.hasher = hasher or NgramHasher()
        if weights.shape != (2**self.hasher.bits,):
            raise InputError(
                f"{2**self.hasher.bits} weights expected for bits={self.hasher.bits}, got shape "
                f"{tuple(weights.shape)}"
            )
        if not (np.isfinite([bias, mean, std]).all() and std > 0 and weights.isfinite().all()):
            raise InputError(f"weights, bias, mean and std must be finite and std positive: {name}")
        self.weights = weights.detach().to(torch.float32).cpu()
        self.bias, self.mean, self.std = float(bias), float(mean), float(std)
        self.name = name or self.kind
        self.include_prompt = include_prompt

    def raw(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], scores of whole texts before standardisation (logits, ratings)."""
        if not texts:
            return np.zeros(0)
        features = self.hasher(texts)
        sums = F.embedding_bag(
            torch.from_numpy(features.buckets),
            self.weights.double()[:, None],
            torch.from_numpy(features.offsets),
            mode="sum",
        )
        scale = np.maximum(features.counts, 1) ** -0.5
        return np.asarray(sums[:, 0].numpy() * scale + self.bias)

    def write_parts(self, folder: Path) -> dict[str, Any]:
        """The weights, in safetensors."""
        write_tensors({"weights": self.weights}, folder / WEIGHTS_FILE)
        return {"bias": self.bias, "hasher": asdict(self.hasher)}

    @staticmethod
    def from_pretrained(directory: str | Path) -> "NgramModel":
        """The model that `save_pretrained` wrote, of the class that wrote it.

        :raises InputError: naming the file, if it is missing, damaged or of another kind.
        """
        return read_saved(directory, _kinds(), _read_model)


class NgramLogistic(NgramModel):
    """Fitted on two-valued labels; the raw score is the log-odds of the label 1."""

    kind = "ngram_logistic"

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[bool],
        *,
        l2: float = 1e-3,
        hasher: NgramHasher | None = None,
        name: str | None = None,
    ) -> Self:
        """Minimise the mean logistic loss + l2/2 · |weights / idf|².

        :param labels: one per text; both values must occur.
        :raises InputError: if the lengths differ or only one label occurs.
        """
        _check_lengths("labels", texts, labels)
        target = torch.tensor([float(bool(label)) for label in labels], dtype=torch.float64)
        if not 0 < target.mean() < 1:
            raise InputError(f"both labels must occur among the {len(texts)} texts: add the other")
        share = float(target.mean())
        hasher = hasher or NgramHasher()
        weights, bias = fit_linear(
            hasher(texts),
            lambda scores: F.binary_cross_entropy_with_logits(scores, target),
            buckets=2**hasher.bits,
            l2=l2,
            bias=float(np.log(share / (1 - share))),
        )
        return cls(weights, bias, hasher=hasher, name=name)


class NgramRidge(NgramModel):
    """Fitted on ratings; the raw score is the expected mean rating."""

    kind = "ngram_ridge"

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        ratings: Sequence[float],
        *,
        l2: float = 1e-3,
        hasher: NgramHasher | None = None,
        name: str | None = None,
    ) -> Self:
        """Minimise the mean of (score - rating)²/2 + l2/2 · |weights / idf|².

        :param ratings: the mean rating of each text, finite.
        :raises InputError: if the lengths differ or a rating is not finite.
        """
        _check_lengths("ratings", texts, ratings)
        target = torch.tensor([float(rating) for rating in ratings], dtype=torch.float64)
        if not target.isfinite().all():
            raise InputError(
                "ratings must be finite numbers, got NaN or infinity: drop those texts"
            )
        hasher = hasher or NgramHasher()
        weights, bias = fit_linear(
            hasher(texts),
            lambda scores: 0.5 * F.mse_loss(scores, target),
            buckets=2**hasher.bits,
            l2=l2,
            bias=float(target.mean()),
        )
        return cls(weights, bias, hasher=hasher, name=name)


class NgramBradleyTerry(NgramModel):
    """Fitted on comparisons; the difference of two raw scores is the log-odds of the first winning.

    Source: Bradley & Terry 1952, "Rank Analysis of Incomplete Block Designs: I".
    """

    kind = "ngram_bradley_terry"

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        pairs: Pairs,
        *,
        l2: float = 1e-3,
        hasher: NgramHasher | None = None,
        name: str | None = None,
    ) -> Self:
        """Minimise the mean Bradley-Terry loss with soft labels + l2/2 · |weights / idf|².

        :param pairs: places in `texts`, with labels in [0, 1].
        :raises InputError: if no pair is decided.
        """
        if not pairs.is_decided.any():
            raise InputError(
                f"no usable pairs: {len(pairs)} given, none of them decided: add comparisons that "
                "are not ties"
            )
        first, second = torch.from_numpy(pairs.first), torch.from_numpy(pairs.second)
        target = torch.from_numpy(pairs.label)
        hasher = hasher or NgramHasher()
        weights, _ = fit_linear(
            hasher(texts),
            lambda scores: F.binary_cross_entropy_with_logits(
                scores[first] - scores[second], target
            ),
            buckets=2**hasher.bits,
            l2=l2,
            bias=0.0,
        )
        return cls(weights, hasher=hasher, name=name)


def _check_lengths(what: str, texts: Sequence[str], values: Sequence[Any]) -> None:
    if len(texts) != len(values) or len(texts) < 2:
        raise InputError(
            f"as many {what} as texts are needed, at least 2, got {len(values)} {what} for "
            f"{len(texts)} texts"
        )


def _kinds() -> dict[str, type[NgramModel]]:
    return {cls.kind: cls for cls in (NgramLogistic, NgramRidge, NgramBradleyTerry)}


def _read_model(directory: Path, fields: SavedFields) -> NgramModel:
    try:
        hasher = NgramHasher.from_dict(fields.table("hasher").content)
    except InputError as error:
        raise InputError(f"{fields.path}: {error}") from None
    file = directory / WEIGHTS_FILE
    if tensor_shapes(file) != {"weights": (2**hasher.bits,)}:
        raise InputError(f"{file}: expected {2**hasher.bits:,} weights for bits={hasher.bits}")
    weights = floating(read_tensors(file), file)["weights"]
    cls = _kinds()[fields.text("kind")]
    return cls(weights, fields.number("bias"), hasher=hasher, **shared_keywords(fields))
