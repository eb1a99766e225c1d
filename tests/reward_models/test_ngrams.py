"""Linear n-gram models: they learn what is there, reach the optimum, save, and refuse."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from textgym.errors import InputError
from textgym.manifest import write_manifest
from textgym.reward_models.learned.features import NgramHasher
from textgym.reward_models.learned.linear import fit_linear
from textgym.reward_models.learned.ngrams import (
    NgramBradleyTerry,
    NgramLogistic,
    NgramModel,
    NgramRidge,
)
from textgym.reward_models.learned.pairs import Pairs

SMALL = NgramHasher(bits=12)
GOOD = [f"a fine warm {noun}" for noun in ("film", "story", "cast", "plot", "ending")]
BAD = [f"a dull cold {noun}" for noun in ("film", "story", "cast", "plot", "ending")]


def test_logistic_learns_labels_and_its_logits_have_the_labels_mean() -> None:
    model = NgramLogistic.fit(GOOD + BAD[:3], [True] * 5 + [False] * 3, l2=1e-3, hasher=SMALL)
    assert model.raw(["a fine warm dance"])[0] > 1 > -1 > model.raw(["a dull cold dance"])[0]
    # at the optimum of an unpenalised bias, predicted and true frequencies agree
    predicted = 1 / (1 + np.exp(-model.raw(GOOD + BAD[:3])))
    assert predicted.mean() == pytest.approx(5 / 8, abs=1e-3)


def test_ridge_equals_the_closed_form() -> None:
    texts, ratings = GOOD + BAD, np.array([2.0, 1.5, 2.5, 3.0, 1.0, -1, -2, -3, -2.5, -1.5])
    features = SMALL(texts)
    used = np.unique(features.buckets)
    x = np.zeros((len(texts), len(used)))
    for row, buckets in enumerate(np.split(features.buckets, features.offsets)[1:]):
        np.add.at(x[row], np.searchsorted(used, buckets), len(buckets) ** -0.5)
    idf = 1 + np.log((1 + len(texts)) / (1 + (x > 0).sum(0)))
    z = x * idf
    centred, target, l2 = z - z.mean(0), ratings - ratings.mean(), 0.05
    gram = centred @ centred.T / len(texts)
    dual = np.linalg.solve(gram + l2 * np.eye(len(texts)), target)
    expected = centred @ (centred.T @ dual) / len(texts) + ratings.mean()

    def loss(scores: torch.Tensor) -> torch.Tensor:
        return 0.5 * F.mse_loss(scores, torch.from_numpy(ratings))

    weights, bias = fit_linear(features, loss, buckets=2**12, l2=l2, steps=200)
    model = NgramRidge(weights, bias, hasher=SMALL)
    assert model.raw(texts) == pytest.approx(expected, abs=1e-4)
    assert NgramRidge.fit(texts, ratings, l2=l2, hasher=SMALL).raw(texts) == pytest.approx(
        expected, abs=0.02
    )


def test_bradley_terry_orders_texts_and_soft_labels_hold_scores_together() -> None:
    first, second = np.arange(5), np.arange(5, 10)
    hard = Pairs(first, second, np.ones(5))
    soft = Pairs(first, second, np.array([0.5, 0.75, 0.5, 0.75, 0.75]))
    fits = [NgramBradleyTerry.fit(GOOD + BAD, p, l2=1e-3, hasher=SMALL) for p in (hard, soft)]
    gaps = [np.mean(fit.raw(GOOD) - fit.raw(BAD)) for fit in fits]
    assert gaps[0] > 2 > gaps[1] > 0
    # the mean label is .65; with a weak penalty the mean modelled probability meets it
    assert np.mean(1 / (1 + np.exp(fits[1].raw(BAD) - fits[1].raw(GOOD)))) == pytest.approx(
        0.65, abs=0.03
    )


def test_a_fit_is_the_same_every_time() -> None:
    one, two = (NgramLogistic.fit(GOOD + BAD, [1] * 5 + [0] * 5, hasher=SMALL) for _ in range(2))
    assert torch.equal(one.weights, two.weights)


def test_standardise_and_the_contract() -> None:
    model = NgramLogistic.fit(GOOD + BAD, [1] * 5 + [0] * 5, hasher=SMALL, name="judge")
    scores = np.array(model.standardise(GOOD + BAD)([""] * 10, GOOD + BAD))
    assert scores.mean() == pytest.approx(0, abs=1e-9)
    assert scores.std() == pytest.approx(1)
    assert model(["a fine"], [" warm film"], label=[0]) == pytest.approx([scores[0]])
    assert model.name == "judge"
    with pytest.raises(InputError, match="different scores"):
        model.standardise(["same", "same"])


@pytest.mark.parametrize("kind", [NgramLogistic, NgramRidge, NgramBradleyTerry])
def test_save_and_load_give_the_same_scores(kind: type[NgramModel], tmp_path: Path) -> None:
    weights = torch.randn(2**12, generator=torch.Generator().manual_seed(0))
    model = kind(weights, 0.5, hasher=SMALL, mean=1.0, std=2.0, name="x", include_prompt=False)
    model.save_pretrained(tmp_path / "rm")
    loaded = NgramModel.from_pretrained(tmp_path / "rm")
    assert type(loaded) is kind
    assert loaded(["p"], ["a text"]) == model(["q"], ["a text"])
    assert loaded.name == "x"


def test_damaged_checkpoints_are_one_clear_error(tmp_path: Path) -> None:
    NgramRidge(torch.zeros(2**12), hasher=SMALL).save_pretrained(tmp_path / "rm")
    config = tmp_path / "rm" / "reward_model.json"
    fields = json.loads(config.read_text())
    for change, message in (
        (
            {"kind": "pickle"},
            "kind must be 'ngram_bradley_terry' or 'ngram_logistic' or .* got 'pickle'",
        ),
        ({"std": 0.0}, "std must be a finite number above 0, got 0.0"),
        ({"hasher": {"bits": 11}}, "must be the integers"),
        ({"mean": "x"}, "mean must be a finite number, got 'x'"),
        ({"mean": float("nan")}, "mean must be a finite number"),
    ):
        config.write_text(json.dumps({**fields, **change}))
        write_manifest(tmp_path / "rm")
        with pytest.raises(InputError, match=message):
            NgramModel.from_pretrained(tmp_path / "rm")
    (tmp_path / "rm" / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"manifest\.json: missing"):
        NgramModel.from_pretrained(tmp_path / "rm")
    with pytest.raises(InputError, match="no such checkpoint"):
        NgramModel.from_pretrained(tmp_path / "nothing")


def test_fits_refuse_what_cannot_be_learned_from() -> None:
    with pytest.raises(InputError, match="both labels"):
        NgramLogistic.fit(GOOD, [True] * 5)
    with pytest.raises(InputError, match="4 labels for 5 texts"):
        NgramLogistic.fit(GOOD, [True] * 4)
    with pytest.raises(InputError, match="finite"):
        NgramRidge.fit(GOOD, [1, 2, 3, 4, float("nan")])
    ties = Pairs(np.array([0]), np.array([1]), np.array([0.5]))
    with pytest.raises(InputError, match="no usable pairs: 1 given, none of them decided"):
        NgramBradleyTerry.fit(GOOD, ties)
    with pytest.raises(InputError, match="4096 weights expected"):
        NgramRidge(torch.zeros(5), hasher=SMALL)
