"""Fitting heads on a frozen trunk: features once, then a convex loss, in seconds.

The trunk reads every text once. A head is then fitted with L-BFGS on the objective's loss over all
judgements of all raters, with a ridge penalty that is chosen on a fifth of the training rows.
Nothing else is drawn, so a fit that is begun again ends at the same model.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.reward_models.learned.comparisons import Comparisons, Row, comparisons
from textgym.reward_models.learned.fit_report import FitReport
from textgym.reward_models.learned.fitting import divide, held_out_pairs
from textgym.reward_models.learned.fitting_loop import FitProgress
from textgym.reward_models.learned.linear import one_thread
from textgym.reward_models.learned.ngrams import NgramBradleyTerry
from textgym.reward_models.learned.objectives import Objective
from textgym.reward_models.learned.pairs import Pairs, Ratings
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003)  # from stiff to loose
CURVE = (1 / 16, 1 / 8, 1 / 4, 1 / 2)  # shares of the training rows


class Head(NamedTuple):
    """A linear head: weights float64 [d], a bias, and the objective with its parameters."""

    weight: Tensor
    bias: Tensor
    objective: Objective

    def scores(self, features: Floats) -> Floats:
        """Float64 [b], raw scores of features [b, d]."""
        return np.asarray(features @ self.weight.numpy() + float(self.bias))


@dataclass(frozen=True)
class Judgements:
    """What people said of b texts, without the texts.

    :param groups: int64 [b], texts that are judged together.
    """

    pairs: Pairs
    ratings: Ratings | None
    groups: Integers

    def times(self, times: Integers) -> "Judgements":
        """The judgements as if each group had been asked so often.

        :param times: int64 [b], how often each text's group counts; 0 leaves it out.
        """
        first, second = self.pairs.first, self.pairs.second
        is_same = self.groups[first] == self.groups[second]
        counts = np.where(is_same, times[first], times[first] * times[second])
        pairs = Pairs(
            np.repeat(first, counts),
            np.repeat(second, counts),
            np.repeat(self.pairs.label, counts),
            np.repeat(self.pairs.tie_share, counts),
        )
        ratings = self.ratings
        if ratings is not None:
            often = times[ratings.owners]
            ratings = Ratings(np.repeat(ratings.owners, often), np.repeat(ratings.values, often))
        return Judgements(pairs, ratings, self.groups)

    @property
    def is_empty(self) -> bool:
        """Whether nobody decided anything."""
        return not self.pairs.is_decided.any()


def fit_head(
    features: Floats,
    judged: Judgements,
    objective: Objective,
    *,
    l2: float,
    steps: int = 60,
    start: Head | None = None,
) -> Head:
    """Minimise the objective's loss of features · weight + bias, plus l2/2 · |weight|².

    :param features: float64 [b, d], standardised.
    :param objective: is not changed; the head has a fitted copy.
    :param steps: L-BFGS iterations at most.
    :param start: a head to start from; default: zeros.
    """
    x = torch.from_numpy(features)
    own = copy.deepcopy(objective if start is None else start.objective).double()
    weight = torch.zeros(x.shape[1], dtype=torch.float64) if start is None else start.weight.clone()
    bias = torch.zeros((), dtype=torch.float64) if start is None else start.bias.clone()
    free = [weight.requires_grad_(True), bias.requires_grad_(True), *own.parameters()]
    optimizer = torch.optim.LBFGS(
        free, max_iter=steps, history_size=10, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> float:
        optimizer.zero_grad()
        value = own.loss(x @ weight + bias, judged) + 0.5 * l2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return float(value.detach())

    with torch.enable_grad(), one_thread():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return Head(weight.detach(), bias.detach(), own.requires_grad_(False))


def choose_penalty(
    features: Floats, judged: Judgements, objective: Objective, rng: np.random.Generator
) -> float:
    """The ridge penalty whose head foretells the judgements of a fifth of the groups best."""
    is_fold = group_share(judged.groups, 0.2, rng)
    inside, outside = judged.times((~is_fold).astype(np.int64)), judged.times(is_fold.astype(int))
    if inside.is_empty or outside.is_empty:
        return PENALTIES[2]
    best, best_loss, head, worse = PENALTIES[0], np.inf, None, 0
    for l2 in PENALTIES:
        head = fit_head(features, inside, objective, l2=l2, start=head)
        scores = torch.from_numpy(head.scores(features))
        loss = float(head.objective.loss(scores, outside))
        if loss < best_loss:
            best, best_loss, worse = l2, loss, 0
        else:
            worse += 1
        if worse == 2:
            break
    return best


def group_share(groups: Integers, share: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """bool [b], a random share of whole groups, at least one."""
    numbers, place = np.unique(groups, return_inverse=True)
    chosen = rng.permutation(len(numbers))[: max(1, round(share * len(numbers)))]
    return np.asarray(np.isin(place, chosen))


def fit_heads(
    model: TrunkRewardModel,
    training: Sequence[Row],
    validation: Sequence[Row] | None = None,
    *,
    seed: int = 0,
    l2: float | None = None,
    steps: int = 60,
    learning_curve: bool = True,
    standardise_on: Sequence[str] | None = None,
    progress: Callable[[FitProgress], None] | None = None,
) -> FitReport:
    """Fit a model's heads on its trunk as it is, standardise, report.

    Of several heads each learns from groups of texts (blocks, preferences) drawn anew with
    replacement, as Lakshminarayanan et al. 2017 compare: where they differ, judgements are missing.

    :param training, validation: as `fit_reward_model` takes them.
    :param l2: ridge penalty on standardised features; None chooses it.
    :param steps: L-BFGS iterations of each fit at most.
    :param learning_curve: also fit on a sixteenth, an eighth, a quarter and half of the rows.
    :param standardise_on: as in `fit_reward_model`.
    :param progress: called after every fit; `step` counts them.
    :raises InputError: if there are no usable pairs, or the rows are of different kinds.
    """
    check_numbers({"steps": steps, "l2": l2})
    with remembered(model):
        begun = time.monotonic()
        rng = np.random.default_rng(seed)
        fold = divide(training, validation, None, rng, needs_choice=False)
        data, held = comparisons(fold.training), comparisons(fold.validation)
        held_out = held_out_pairs(held, rng)
        fit = FrozenFit(model, data, rng, seed=seed, steps=steps)
        baseline = NgramBradleyTerry.fit(data.texts, fit.judged.pairs)
        held_features = fit.standard(held.texts)
        fits, total = 0, model.heads + len(CURVE) * learning_curve

        def tell(head: Head) -> float:
            nonlocal fits
            fits += 1
            accuracy = held_out.accuracy(head.scores(held_features))
            if progress is not None:
                scores = torch.from_numpy(head.scores(fit.features))
                loss = float(head.objective.loss(scores, fit.judged))
                progress(FitProgress(fits, min(1.0, fits / total), loss, accuracy))
            return accuracy

        chosen = fit.choose(rng) if l2 is None else l2
        heads = fit.heads(chosen)
        for head in heads:
            tell(head)
        curve = []
        for share in CURVE if learning_curve else ():
            is_used = group_share(data.groups, share, np.random.default_rng([seed, 4]))
            part = fit.judged.times(is_used.astype(np.int64))
            if not part.is_empty:
                labels = round(data.n_labels * float(is_used.mean()))
                curve.append((labels, tell(fit.fit(part, chosen))))
        fit.write(heads)
        model.standardise(data.texts if standardise_on is None else standardise_on)
        scores = model.raw(held.texts)
        if learning_curve:
            curve.append((data.n_labels, held_out.accuracy(scores)))
        return held_out.report(
            scores,
            model.objective,
            baseline,
            rng,
            steps=fits,
            seconds=time.monotonic() - begun,
            training_rows=data.n_rows,
            cut_texts=model.count_cut([*data.texts, *held.texts]),
            split_note=fold.note,
            learning_curve=curve,
        )


@contextlib.contextmanager
def remembered(model: TrunkRewardModel) -> Iterator[None]:
    """Inside, the trunk reads each text once; it must not change."""
    before = model.known
    model.known = {} if before is None else before
    try:
        yield
    finally:
        model.known = before


class FrozenFit:
    """The features of training texts, the judgements of them, and fits on both.

    :param model: gives the features and the objective; `write` sets its heads.
    :param data: training rows.
    :param rng: draws the pairs of texts that no block holds together.
    :param seed: of the judgements that each of several heads sees.
    :param steps: L-BFGS iterations of each fit at most.
    :raises InputError: if nobody decided between two texts.
    """

    def __init__(
        self,
        model: TrunkRewardModel,
        data: Comparisons,
        rng: np.random.Generator,
        *,
        seed: int = 0,
        steps: int = 60,
    ) -> None:
        self.model, self.seed, self.steps = model, seed, steps
        whole = data.whole(rng)
        self.judged = Judgements(whole.pairs, whole.ratings, data.groups)
        if self.judged.is_empty:
            raise InputError("no usable pairs: nobody decided between two training texts: add rows")
        features = model.features(data.texts).astype(np.float64)
        self.center, self.spread = features.mean(axis=0), features.std(axis=0) + 1e-6
        self.features = (features - self.center) / self.spread

    def standard(self, texts: Sequence[str]) -> Floats:
        """Float64 [b, d], features of other texts in the units of the training texts'."""
        features = self.model.features(texts).astype(np.float64)
        return np.asarray((features - self.center) / self.spread)

    def choose(self, rng: np.random.Generator) -> float:
        """See `choose_penalty`."""
        return choose_penalty(self.features, self.judged, self.model.objective, rng)

    def fit(self, judged: Judgements, l2: float, start: Head | None = None) -> Head:
        """See `fit_head`."""
        objective, steps = self.model.objective, self.steps
        return fit_head(self.features, judged, objective, l2=l2, steps=steps, start=start)

    def heads(self, l2: float) -> list[Head]:
        """As many as the model has; a single one sees all judgements, the objective is the first's.

        Of several each sees as many groups as there are, drawn with replacement.
        """
        main = self.fit(self.judged, l2)
        if self.model.heads == 1:
            return [main]
        found = []
        for k in range(self.model.heads):
            times = resampled(self.judged.groups, np.random.default_rng([self.seed, 3, k]))
            head = self.fit(self.judged.times(times), l2, main)
            found.append(head._replace(objective=main.objective))
        return found

    @torch.no_grad()
    def write(self, heads: Sequence[Head]) -> None:
        """Heads on standardised features become the model's, on features as they are."""
        model = self.model
        weights = np.stack([head.weight.numpy() / self.spread for head in heads])
        biases = np.array([float(head.bias) for head in heads]) - weights @ self.center
        if model.heads == 1:
            weights, biases = weights[0], biases[0]
        model.head_weight.copy_(torch.from_numpy(weights))
        model.head_bias.copy_(torch.as_tensor(biases))
        fitted = dict(heads[0].objective.named_parameters())
        for name, parameter in model.objective.named_parameters():
            parameter.copy_(fitted[name])


def resampled(groups: Integers, rng: np.random.Generator) -> Integers:
    """int64 [b], how often each text's group was drawn, as many groups as there are."""
    numbers, place = np.unique(groups, return_inverse=True)
    drawn = np.bincount(rng.integers(len(numbers), size=len(numbers)), minlength=len(numbers))
    return np.asarray(drawn[place], np.int64)
