"""Fitting a reward model: it learns from ratings and preferences, reports, stops, refuses."""

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from textgym.errors import DivergenceError, InputError
from textgym.reward_models.learned.bradley_terry import BradleyTerryRewardModel
from textgym.reward_models.learned.comparisons import RATERS_PER_PAIR, comparisons, hold_out
from textgym.reward_models.learned.fitting import FitReport, fit_bradley_terry
from textgym.reward_models.learned.fitting_loop import FitProgress
from textgym.reward_models.learned.pairs import pair_accuracy
from textgym.tokenizer import Tokenizer


@dataclass(frozen=True)
class Item:
    text: str
    ratings: tuple[float, ...]
    block: int | None = None
    prompt: str = ""


@dataclass(frozen=True)
class Choice:
    prompt: str
    chosen: str
    rejected: str
    is_tie: bool = False


class BagTrunk(nn.Module):
    """Each token's embedding by itself: enough to learn which characters people like."""

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.config = SimpleNamespace(hidden_size=8, max_position_embeddings=64)
        weight = torch.randn(vocab_size, 8, generator=torch.Generator().manual_seed(1))
        self.embed = nn.Embedding.from_pretrained(weight * 0.1, freeze=False)

    def hidden_states(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        hidden: Tensor = self.embed(tokens)
        return hidden


def build(seed: int = 0) -> BradleyTerryRewardModel:
    tokenizer = Tokenizer.byte()
    return BradleyTerryRewardModel(BagTrunk(tokenizer.vocab_size), tokenizer, seed=seed)


def rated(blocks: int, seed: int, block: bool = True) -> list[Item]:
    """Raters like the letter a, dislike b, each on a scale of his own, with one point of noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(blocks):
        offsets = rng.integers(-3, 4, 6)
        for _ in range(8):
            letters = "".join(rng.choice(list("abxyz "), 8))
            merit = letters.count("a") - letters.count("b")
            ratings = tuple((merit + offsets + rng.integers(-1, 2, 6)).tolist())
            rows.append(Item(letters, ratings, number if block else None))
    return rows


@pytest.mark.parametrize("block", [True, False])
def test_it_learns_what_raters_like(block: bool) -> None:
    model, seen = build(), list[FitProgress]()
    report = fit_bradley_terry(
        model, rated(25, 0, block), rated(6, 1, block), seed=0, epochs=6, learning_rate=0.05,
        progress=seen.append,
    )  # fmt: skip
    assert model.raw(["aaaa"])[0] > model.raw(["xyxy"])[0] > model.raw(["bbbb"])[0]
    assert report.pair_accuracy > 0.65
    assert report.pearson > 0.8
    assert report.pair_accuracy > report.baseline - 0.05
    assert 0.5 < report.rater_vs_rater <= 1
    assert seen[-1].step == report.steps
    assert [p.done for p in seen] == sorted(p.done for p in seen)


def test_it_learns_from_preferences_whose_prompt_is_part_of_the_text() -> None:
    rows = [Choice(f"{k} ", "aa" + "xyz"[k % 3], "bb" + "xyz"[k % 3]) for k in range(40)]
    rows.append(Choice("p", "x", "x", is_tie=True))
    model = build()
    report = fit_bradley_terry(model, rows, seed=0, epochs=8, learning_rate=0.05)
    assert report.pair_accuracy == 1.0
    assert np.isnan(report.rater_vs_rater)
    assert model(["1 "], ["aax"])[0] > model(["1 "], ["bbx"])[0]
    assert ("held-out pair accuracy", "1.000") in report.rows()
    assert not any("ceiling" in label for label, _ in report.rows())


def test_labels_turned_round_turn_the_scores_round() -> None:
    rows = [Choice(f"{k} ", "aa", "bb") for k in range(20)]
    swapped = [Choice(row.prompt, row.rejected, row.chosen) for row in rows]
    gaps = []
    for choices in (rows, swapped):
        model = build()
        fit_bradley_terry(model, choices, epochs=5, learning_rate=0.05)
        gaps.append(np.subtract(*model.raw(["aa", "bb"])))
    assert gaps[0] > 0.03
    assert gaps[1] < -0.03


def test_the_same_seed_gives_the_same_model_and_no_global_generator_moves() -> None:
    before = torch.get_rng_state()
    scores = []
    for seed in (3, 3, 4):
        model = build()
        fit_bradley_terry(model, rated(6, 0), rated(3, 1), seed=seed, evaluations=0)
        scores.append(model.raw(["abxy", "zzza"]).tolist())
    assert scores[0] == scores[1] != scores[2]
    assert torch.equal(before, torch.get_rng_state())


def test_the_best_state_comes_back_when_held_out_pairs_get_worse() -> None:
    # the held-out raters want the opposite: every step makes it worse
    training = rated(20, 0)
    opposite = [Item(r.text, tuple(-v for v in r.ratings), r.block) for r in rated(6, 1)]
    model, seen = build(), list[FitProgress]()
    report = fit_bradley_terry(
        model, training, opposite, epochs=20, learning_rate=0.05, patience=2, progress=seen.append
    )
    assert report.stopped_early
    assert report.steps < 20 * 20
    accuracies = [p.accuracy for p in seen if p.accuracy == p.accuracy]
    assert report.pair_accuracy == pytest.approx(max(accuracies))


def test_seconds_end_it_and_the_default_standardises_on_the_training_texts() -> None:
    model, training = build(), rated(10, 0)
    report = fit_bradley_terry(model, training, rated(3, 1), epochs=1e6, seconds=1e-6)
    assert report.steps == 1
    scores = model.score([row.text for row in training])
    assert (scores.mean(), scores.std()) == (pytest.approx(0, abs=1e-5), pytest.approx(1))


def test_steps_are_the_budget_and_no_clock_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which every look at the clock takes an hour learns the very same model."""
    scores, hours = [], itertools.count(0, 3600)
    for is_slow in (False, True):
        if is_slow:
            monkeypatch.setattr(time, "monotonic", lambda: float(next(hours)))
        model = build()
        report = fit_bradley_terry(model, rated(6, 0), rated(3, 1), steps=9, evaluations=0)
        assert report.steps == 9
        scores.append(model.raw(["abxy", "zzza"]).tolist())
    assert scores[0] == scores[1]


@pytest.mark.parametrize("stop", [1, 4, 9])
def test_a_fit_goes_on_from_any_step_to_the_same_end(stop: int) -> None:
    """Nine steps are a pass and a half: the stop is inside the first, at its end, or at the end."""
    kept: dict[int, dict[str, Any]] = {}
    keywords: dict[str, Any] = {"steps": 9, "evaluations": 3, "patience": 9}

    def save(state: Callable[[], dict[str, Any]]) -> None:
        now = state()
        kept[now["step"]] = copy.deepcopy(now)

    whole = build()
    first = fit_bradley_terry(whole, rated(6, 0), rated(3, 1), save=save, **keywords)
    other = build(seed=5)  # whatever it begins with is replaced
    second = fit_bradley_terry(other, rated(6, 0), rated(3, 1), state=kept[stop], **keywords)
    assert list(kept) == list(range(1, 10))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert (whole.mean, whole.std) == (other.mean, other.std)
    assert replace(first, seconds=0) == replace(second, seconds=0)
    with pytest.raises(InputError, match="the state does not fit this reward model"):
        fit_bradley_terry(build(), rated(6, 0), rated(3, 1), state={**kept[1], "model": {}})


def test_a_loss_that_is_not_finite_ends_the_fit_before_a_step() -> None:
    model = build()
    with torch.no_grad():
        model.head_bias.fill_(float("nan"))
    before = model.trunk.embed.weight.clone()
    with pytest.raises(DivergenceError, match=r"loss is nan .* at step 1: lower learning_rate"):
        fit_bradley_terry(model, rated(6, 0), rated(3, 1), evaluations=0)
    assert torch.equal(before, model.trunk.embed.weight)


def test_rows_without_usable_pairs_are_refused() -> None:
    ties = [Item(str(k), (1.0, 1.0), k // 2) for k in range(8)]
    with pytest.raises(InputError, match="no usable pairs"):
        fit_bradley_terry(build(), ties, rated(3, 1))
    with pytest.raises(InputError, match="no usable held-out pairs"):
        fit_bradley_terry(build(), rated(3, 1), ties)
    lonely = [Item(str(k), (float(k),), k) for k in range(8)]  # a block of one has no pair
    with pytest.raises(InputError, match="no usable pairs"):
        fit_bradley_terry(build(), lonely, rated(3, 1))
    for rows in ([], [Item("a", (1.0,)), Choice("p", "a", "b")]):
        with pytest.raises(InputError, match="no usable pairs: expected rated texts"):
            comparisons(rows)
    with pytest.raises(InputError, match="epochs must be a finite number above 0"):
        fit_bradley_terry(build(), rated(3, 1), epochs=0)


def test_hold_out_keeps_blocks_and_prompts_together() -> None:
    rng = np.random.default_rng(0)
    training, held = hold_out(rows := rated(20, 0), rng).divide(rows)
    assert {row.block for row in training}.isdisjoint({row.block for row in held})  # type: ignore[union-attr]
    assert (len(training), len(held)) == (18 * 8, 2 * 8)
    choices = [Choice(f"{k % 10}", "a", f"b{k}") for k in range(50)]
    training, held = hold_out(choices, rng).divide(choices)
    assert len(held) == 5
    assert {row.prompt for row in held}.isdisjoint({row.prompt for row in training})  # type: ignore[union-attr]
    with pytest.raises(InputError, match="at least four rows, got 3"):
        hold_out(choices[:3], rng)


def test_held_out_rows_are_some_that_people_decided_between() -> None:
    rng = np.random.default_rng(0)
    letters = list("abcdefghijklmnopqrstuvwxyz")
    texts = ["".join(rng.choice(letters, 30)) for _ in range(80)]
    ties = [Choice("", a, b, is_tie=True) for a, b in zip(texts[:36], texts[36:72], strict=True)]
    rows = [*ties, *[Choice("", texts[72 + k], texts[76 + k]) for k in range(4)]]
    for seed in range(6):
        training, held = hold_out(rows, np.random.default_rng(seed)).divide(rows)
        assert (len(training), len(held)) == (36, 4)
        assert any(not row.is_tie for row in held)
    assert len(hold_out(rows[-5:], rng).divide(rows[-5:])[1]) == 1  # a tenth of five, rounded up


def test_judgements_of_one_text_on_several_rows_are_no_baseline_of_one() -> None:
    """Each text thrice, its noise thrice: whoever sees a copy in training knows the answer."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijkl"), 5)) for _ in range(300)]
    rows = []
    for _ in range(80):
        chosen = rng.choice(words, 8, replace=False).tolist()
        rating = (float(rng.integers(1, 6)),)
        edited = " ".join([str(rng.choice(words)), *chosen[1:]])
        text = " ".join(chosen)
        rows += [Item(copy, rating) for copy in (text, text.upper() + "!", edited)]
    rows = [rows[k] for k in rng.permutation(len(rows))]
    report = fit_bradley_terry(build(), rows, seed=0, epochs=0.1)
    assert report.baseline < 0.7
    assert (report.training_rows, report.heldout_rows, report.choice_rows) == (195, 24, 21)
    assert ("held-out rows", "24 of 240") in report.rows()


def test_a_report_says_how_little_it_knows_and_what_was_cut() -> None:
    long = [Item("x" * 90 + row.text, row.ratings, row.block) for row in rated(1, 5)]
    report = fit_bradley_terry(build(), rated(3, 0), long, epochs=1)
    assert report.cut_texts == 8  # the context of the trunk is 64
    assert report.notes() == [
        "note: only 28 held-out pairs: the accuracies are known to ± 0.19; add judgements before "
        "you rely on them",
        "note: 8 texts are longer than the model's context: only their ends were read; shorten "
        "them or take a model with a longer context",
    ]
    assert fit_bradley_terry(build(), rated(3, 0), rated(3, 1), epochs=1).notes() == []


def test_batches_of_a_pass_hold_every_row_once() -> None:
    rows = [*rated(3, 0), *rated(4, 1, block=False)]
    data = comparisons(rows)
    batches = list(data.batches(np.random.default_rng(0), batch_size=8))
    assert len(batches) == data.steps(8) == 3 + 4
    assert sorted(t for b in batches for t in b.texts) == sorted(r.text for r in rows)
    for batch in batches[:2]:
        assert batch.pairs.first.max() < len(batch.texts)


def test_a_step_asks_eight_raters_about_each_pair() -> None:
    """Half of the raters prefer either of a and b: one says 0 or 1, eight nearly always both."""
    rows = [Item("a", (1, 0, 2, 0), 0), Item("b", (0, 1, 0, 2), 0), Item("c", (9, 9, 9, 9), 0)]
    data, rng = comparisons(rows), np.random.default_rng(0)
    for_a: list[list[float]] = []
    for _ in range(20):
        (batch,) = data.batches(rng, batch_size=8)
        assert len(batch.texts) == 3 and len(batch.pairs.first) == 3 * RATERS_PER_PAIR == 24
        for_a.append([])
        assert batch.pairs.ties is None
        votes = (batch.pairs.first, batch.pairs.second, batch.pairs.label)
        for first, second, label in zip(*votes, strict=True):
            one, other = batch.texts[first], batch.texts[second]
            if "c" in (one, other):
                assert label == float(one == "c")
            else:
                for_a[-1].append(label if one == "a" else 1.0 - label)
    assert all(len(votes) == RATERS_PER_PAIR and set(votes) <= {0.0, 1.0} for votes in for_a)
    assert sum(len(set(votes)) == 2 for votes in for_a) >= 15  # of one mind: 1 in 128
    assert 0.4 < np.mean(for_a) < 0.6


def test_report_table_holds_what_is_known() -> None:
    report = FitReport(0.6, 0.64, 0.79, 0.81, 0.4, 700, 300, 25.0, False)
    assert report.rows()[:3] == [
        ("held-out pair accuracy", "0.600"),
        ("n-gram baseline", "0.640"),
        ("rater against rater (ceiling)", "0.790"),
    ]
    assert pair_accuracy([1.0, 0.0], comparisons([Choice("", "a", "b")]).pairs(np.random.default_rng(0))) == 1.0  # fmt: skip # noqa: E501
