"""A trunk with other models beside it, weighed by judgements that none of them saw.

Stacked generalisation (Wolpert 1992). A frozen trunk's head and n-grams are fitted on four fifths
of the training rows and score the fifth, five times; a trunk that is fitted whole and n-grams score
rows that were held out for it. On these scores a Bradley-Terry model with a weight for each member
says how much to trust it.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.learned.comparisons import Comparisons, Row, comparisons
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.reward_models.learned.fit_report import FitReport
from textgym.reward_models.learned.fitting import (
    Fold,
    divide,
    fit_reward_model,
    held_out_pairs,
)
from textgym.reward_models.learned.fitting_loop import FitProgress
from textgym.reward_models.learned.head_fitting import FrozenFit, remembered
from textgym.reward_models.learned.learned_reward import LearnedReward
from textgym.reward_models.learned.ngrams import NgramBradleyTerry
from textgym.reward_models.learned.objectives import BradleyTerry
from textgym.reward_models.learned.pairs import Pairs
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel

FOLDS = 5
Floats = npt.NDArray[np.float64]


def stack_frozen(
    model: TrunkRewardModel,
    training: Sequence[Row],
    validation: Sequence[Row] | None = None,
    *,
    others: Sequence[LearnedReward] = (),
    seed: int = 0,
    l2: float | None = None,
    standardise_on: Sequence[str] | None = None,
    progress: Callable[[FitProgress], None] | None = None,
) -> tuple[Ensemble, FitReport]:
    """Fit a frozen trunk's heads and n-grams, weigh them, standardise, report.

    :param model: its heads are fitted; it becomes a member of the ensemble.
    :param others: models that learned from none of these rows, such as a word list: weighed too.
    :param training, validation, l2, standardise_on, progress: as `fit_heads` takes them.
    :raises InputError: if there are no usable pairs, or too few groups of texts for five folds.
    """
    with remembered(model):
        begun = time.monotonic()
        rng = np.random.default_rng(seed)
        fold = divide(training, validation, None, rng, needs_choice=False)
        data, held = comparisons(fold.training), comparisons(fold.validation)
        held_out = held_out_pairs(held, rng)
        fit = FrozenFit(model, data, rng, seed=seed)
        parts = _folds(data.groups, rng)
        chosen = fit.choose(rng) if l2 is None else l2
        apart = np.zeros((len(data.texts), 2))
        for number in range(FOLDS):
            is_fold = parts == number
            rest = fit.judged.times((~is_fold).astype(np.int64))
            if rest.is_empty:
                raise InputError("no usable pairs in four fifths of the training rows: add rows")
            apart[is_fold, 0] = fit.fit(rest, chosen).scores(fit.features[is_fold])
            ngrams = NgramBradleyTerry.fit(data.texts, rest.pairs)
            apart[is_fold, 1] = ngrams.raw([data.texts[k] for k in np.flatnonzero(is_fold)])
            if progress is not None:
                progress(FitProgress(number + 1, (number + 1) / (FOLDS + 1), np.nan, np.nan))
        scores = [*apart.T, *(other.raw(data.texts) for other in others)]
        pairs = fit.judged.pairs
        weights = pair_weights(np.stack(scores, axis=1), _inside(pairs, parts))
        fit.write(fit.heads(chosen))
        beside = NgramBradleyTerry.fit(data.texts, pairs, name="ngrams")
        both = _ensemble(model, [model, beside, *others], weights, data, standardise_on)
        found = _weighed(both.members, weights, held)
        if progress is not None:
            progress(FitProgress(FOLDS + 1, 1.0, np.nan, held_out.accuracy(found)))
        return both, held_out.report(
            found,
            BradleyTerry(),
            beside,
            rng,
            steps=FOLDS + 1,
            seconds=time.monotonic() - begun,
            training_rows=data.n_rows,
            cut_texts=model.count_cut([*data.texts, *held.texts]),
            split_note=fold.note,
        )


def stack_whole(
    model: TrunkRewardModel,
    training: Sequence[Row],
    validation: Sequence[Row] | None = None,
    *,
    others: Sequence[LearnedReward] = (),
    seed: int = 0,
    standardise_on: Sequence[str] | None = None,
    **keywords: Any,
) -> tuple[Ensemble, FitReport]:
    """Fit a whole trunk, and n-grams, weigh them by rows held out for that, standardise, report.

    :param others: as in `stack_frozen`.
    :param keywords: of `fit_reward_model`.
    :raises InputError: if there are no usable pairs, or nothing can be held out to weigh by.
    """
    rng = np.random.default_rng([seed, 5])
    fold = divide(training, validation, None, rng, needs_choice=True)
    if fold.choice is None:
        split = divide(fold.training, None, None, rng, needs_choice=False)
        fold = Fold(split.training, fold.validation, split.validation, fold.note)
    assert fold.choice is not None
    keywords.setdefault("evaluations", 0)
    alone = fit_reward_model(
        model, fold.training, fold.validation, choice=fold.choice, seed=seed, **keywords
    )
    data, held, choice = map(comparisons, (fold.training, fold.validation, fold.choice))
    pairs = data.whole(rng).pairs
    beside = NgramBradleyTerry.fit(data.texts, pairs, name="ngrams")
    members: list[Any] = [model, beside, *others]
    scores = np.stack([member.raw(choice.texts) for member in members], axis=1)
    weights = pair_weights(scores, choice.whole(rng).pairs)
    both = _ensemble(model, members, weights, data, standardise_on)
    return both, held_out_pairs(held, rng).report(
        _weighed(members, weights, held),
        BradleyTerry(),
        beside,
        rng,
        steps=alone.steps,
        seconds=alone.seconds,
        stopped_early=alone.stopped_early,
        training_rows=data.n_rows,
        choice_rows=len(fold.choice),
        cut_texts=alone.cut_texts,
        split_note=fold.note,
    )


def pair_weights(scores: Floats, pairs: Pairs) -> Floats:
    """Weights of several scores, none below 0, by which their sum foretells pairs best.

    :param scores: float64 [texts, members].
    :returns: float64 [members]: of the sum's Bradley-Terry log-odds.
    """
    scale = scores.std(axis=0) + 1e-12
    difference = (scores[pairs.first] - scores[pairs.second]) / scale

    def loss(weights: Floats) -> tuple[float, Floats]:
        odds = difference @ weights
        gap = 1 / (1 + np.exp(-odds)) - pairs.label
        value = np.logaddexp(0, odds) - pairs.label * odds
        return float(value.mean()), difference.T @ gap / len(gap)

    start = np.full(scores.shape[1], 0.5)
    from scipy.optimize import minimize  # takes a second to import

    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start))
    weights = np.asarray(found.x) if found.x.sum() > 0 else start
    return np.asarray(weights / scale)


def _ensemble(
    model: TrunkRewardModel,
    members: Sequence[Any],
    weights: Floats,
    data: Comparisons,
    standardise_on: Sequence[str] | None,
) -> Ensemble:
    """Members in units of their own, weighed so that raw scores have the given weights."""
    for member in members:
        member.standardise(data.texts)
    shares = weights * np.array([member.std for member in members])
    both = Ensemble(members, weights=shares.tolist(), name=model.name)
    return both.standardise(data.texts if standardise_on is None else standardise_on)


def _weighed(members: Sequence[Any], weights: Floats, held: Comparisons) -> Floats:
    """Float64 [texts], log-odds that all members together give."""
    return np.asarray(np.stack([m.raw(held.texts) for m in members], axis=1) @ weights)


def _folds(groups: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """int64 [texts], the fold of each, whole groups in one.

    :raises InputError: if there are fewer groups than folds.
    """
    numbers, place = np.unique(groups, return_inverse=True)
    if len(numbers) < FOLDS:
        raise InputError(f"expected at least {FOLDS} groups of texts, got {len(numbers)}: add rows")
    order = rng.permutation(len(numbers)) % FOLDS
    return np.asarray(order[place], np.int64)


def _inside(pairs: Pairs, parts: npt.NDArray[np.int64]) -> Pairs:
    """The pairs whose texts are in one fold: their scores come from one fit."""
    same = parts[pairs.first] == parts[pairs.second]
    return Pairs(pairs.first[same], pairs.second[same], pairs.label[same], pairs.tie_share[same])
