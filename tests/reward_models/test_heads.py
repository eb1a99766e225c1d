"""Heads on a frozen trunk, several of them, stacks and ensembles with disagreement."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from textgym.agents.building.reward_checkpoint import load_reward
from textgym.errors import InputError
from textgym.reward_models.learned.ensemble import Ensemble
from textgym.reward_models.learned.head_fitting import Judgements, fit_head, fit_heads
from textgym.reward_models.learned.objectives import OBJECTIVES, BradleyTerry, Ordinal
from textgym.reward_models.learned.pairs import Pairs, Ratings
from textgym.reward_models.learned.stacking import pair_weights, stack_frozen, stack_whole
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel
from textgym.reward_models.lexicon_scores import LexiconScores
from textgym.rewards import RewardOutput, call_reward
from textgym.tokenizer import Tokenizer


class BagTrunk(nn.Module):
    """Each byte's embedding by itself."""

    def __init__(self, size=8):
        super().__init__()
        self.config = SimpleNamespace(hidden_size=size, max_position_embeddings=64)
        weight = torch.randn(259, size, generator=torch.Generator().manual_seed(1))
        self.embed = nn.Embedding.from_pretrained(weight, freeze=False)

    def hidden_states(self, tokens, lengths):
        return self.embed(tokens)


def build(**keywords):
    return TrunkRewardModel(BagTrunk(), Tokenizer.byte(), **keywords)


def rated(blocks, seed, scale=1.0):
    """Raters like the letter a and dislike b."""
    rng, rows = np.random.default_rng(seed), []
    for number in range(blocks):
        for _ in range(6):
            text = "".join(rng.choice(list("abxyz "), 8))
            merit = scale * (text.count("a") - text.count("b"))
            ratings = tuple(float(merit + noise) for noise in rng.integers(-1, 2, 4))
            rows.append(SimpleNamespace(text=text, ratings=ratings, block=number))
    return rows


def test_a_head_is_at_the_minimum_that_scipy_finds():
    rng = np.random.default_rng(0)
    features, n = rng.standard_normal((30, 3)), 80
    first, second = rng.integers(0, 30, n), rng.integers(0, 30, n)
    label = rng.random(n)
    judged = Judgements(Pairs(first, second, label), None, np.arange(30))
    head = fit_head(features, judged, BradleyTerry(), l2=0.1)

    def loss(weight):
        odds = (features[first] - features[second]) @ weight
        return np.mean(np.logaddexp(0, odds) - label * odds) + 0.05 * weight @ weight

    assert head.weight.numpy() == pytest.approx(minimize(loss, np.zeros(3), tol=1e-10).x, abs=1e-4)


def test_judgements_count_as_often_as_their_groups():
    pairs = Pairs(np.array([0, 1, 3]), np.array([1, 2, 4]), np.array([1.0, 0.0, 0.5]))
    ratings = Ratings(np.array([0, 2, 2]), np.array([5.0, 6.0, 7.0]))
    groups = np.array([0, 0, 1, 2, 2])
    again = Judgements(pairs, ratings, groups).times(np.array([2, 2, 3, 0, 0]))
    assert again.pairs.first.tolist() == [0] * 2 + [1] * 6  # 2 inside a group, 2 · 3 across two
    assert again.ratings.values.tolist() == [5.0] * 2 + [6.0] * 3 + [7.0] * 3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_learns_what_raters_like(name, tmp_path):
    rows = rated(30, 0)
    values = Ratings(np.zeros(720, int), np.array([v for row in rows for v in row.ratings]))
    model = build(objective=OBJECTIVES[name].of(values), name="rm")
    before = model.trunk.embed.weight.clone()
    report = fit_heads(model, rows, rated(12, 1), seed=0, learning_curve=name == "davidson")
    assert torch.equal(model.trunk.embed.weight, before)
    assert report.pair_accuracy > 0.75
    assert report.low < report.pair_accuracy < report.high
    assert report.calibration_error < 0.12
    assert model.raw(["aaaa"])[0] > model.raw(["xyxy"])[0] > model.raw(["bbbb"])[0]
    if name == "davidson":
        labels = [n for n, _ in report.learning_curve]
        assert labels == sorted(labels) and labels[-1] == 720
        assert report.learning_curve[-1][1] == report.pair_accuracy
    calls = []
    again = build(objective=OBJECTIVES[name].of(values))
    read = again.trunk.hidden_states
    again.trunk.hidden_states = lambda tokens, n: calls.extend(n.tolist()) or read(tokens, n)
    fit_heads(again, rows, rated(12, 1), seed=0, learning_curve=False)
    assert len(calls) == len({row.text for row in rows + rated(12, 1)})  # each text once
    assert again.raw(["abxy", "zz"]).tolist() == model.raw(["abxy", "zz"]).tolist()
    model.trunk.save_pretrained = lambda folder: folder.mkdir()
    model.save_pretrained(tmp_path / "rm")
    opened = TrunkRewardModel.from_pretrained(tmp_path / "rm", model.trunk, model.tokenizer)
    assert opened(["a"], ["bz"]) == model(["a"], ["bz"])
    one, other = np.array([0.2]), np.array([-0.4])
    win = model.objective.win_probability
    assert opened.objective.win_probability(one, other) == win(one, other)


def test_heads_that_disagree_cost(tmp_path):
    model = build(heads=4, penalty=2.0)
    fit_heads(model, rated(20, 0), rated(8, 1), learning_curve=False)
    texts = ["aaaa", "abab", "zz"]
    heads = model.head_scores(texts)
    assert heads.shape == (3, 4) and heads.std(axis=1).min() > 0
    assert model.raw(texts) == pytest.approx(heads.mean(axis=1) - 2 * heads.std(axis=1))
    answer = model([""] * 3, texts)
    assert isinstance(answer, RewardOutput)
    parts = {k: np.array(v) for k, v in answer.components.items()}
    assert answer.scores == pytest.approx((parts["mean"] - 2 * parts["disagreement"]).tolist())
    assert parts["disagreement"] == pytest.approx(heads.std(axis=1) / model.std)
    model.trunk.save_pretrained = lambda folder: folder.mkdir()
    model.save_pretrained(tmp_path / "rm")
    opened = TrunkRewardModel.from_pretrained(tmp_path / "rm", model.trunk, model.tokenizer)
    assert opened([""] * 3, texts).scores == answer.scores


def test_what_tokens_add_is_the_score_less_what_no_token_of_the_completion_has():
    model = build(per_token=True).standardise(["abc", "zzz", "xay"])
    prompt, completion = "ab", "z电影"
    output = call_reward(model, [prompt], [completion], {})
    spans = output.spans[0]
    assert [(start, end) for start, end, _ in spans] == [(0, 1)] + [(1, 2)] * 3 + [(2, 3)] * 3
    ids = torch.tensor(model.encode([prompt + completion]))
    scores = (model.trunk.hidden_states(ids, None)[0] @ model.head_weight).tolist()
    own = scores[-7:]  # after the start token and the prompt
    assert [amount for *_, amount in spans] == pytest.approx(
        [score / (len(scores) * model.std) for score in own], rel=1e-4
    )
    plain = build().standardise(["abc", "zzz", "xay"])([prompt], [completion])
    assert output.scores.tolist() == pytest.approx(plain)


def test_weights_of_scores_that_say_all_and_nothing():
    rng = np.random.default_rng(0)
    merit, noise = rng.standard_normal((2, 400))
    first, second = rng.integers(0, 400, 3000), rng.integers(0, 400, 3000)
    chance = 1 / (1 + np.exp(-2 * (merit[first] - merit[second])))
    pairs = Pairs(first, second, chance)
    weights = pair_weights(np.stack([merit * 5, noise, -merit], axis=1), pairs)
    assert weights == pytest.approx([0.4, 0.0, 0.0], abs=0.02)


def test_a_stack_is_an_ensemble_with_weights_and_comes_back(tmp_path):
    model = build(name="rm")
    both, report = stack_frozen(model, rated(25, 0), rated(10, 1), others=[LexiconScores()])
    assert report.pair_accuracy > 0.75
    assert [member.name for member in both.members] == ["rm", "ngrams", "lexicon"]
    assert both.weights.sum() == pytest.approx(1.0) and both.weights[0] > 0.3
    texts = ["aab", "bbx"]
    by_hand = sum(w * m.score(texts) for w, m in zip(both.weights, both.members, strict=True))
    assert both.raw(texts) == pytest.approx(by_hand)
    both.members = both.members[1:]  # this trunk has no checkpoint of a language model's
    saved = Ensemble(both.members, weights=[3.0, 1.0], penalty=0.5, name="stack")
    saved.save_pretrained(tmp_path / "stack")
    opened = load_reward(tmp_path / "stack")
    assert opened([""] * 2, texts).scores == saved([""] * 2, texts).scores
    assert opened.weights.tolist() == [0.75, 0.25]


def test_a_whole_trunk_is_weighed_by_rows_of_its_own():
    _, report = stack_whole(build(), rated(25, 0), rated(10, 1), epochs=3, learning_rate=0.05)
    assert report.pair_accuracy > 0.7
    assert report.training_rows < 150 and report.steps == 3 * 23


def test_an_ensembles_disagreement_by_hand():
    class Fixed:
        name = "fixed"

        def __init__(self, scores):
            self.values = np.array(scores)

        def score(self, texts):
            return self.values

    both = Ensemble([Fixed([1.0, 4.0]), Fixed([3.0, 0.0])], weights=[1, 3], penalty=1.0, std=2.0)
    mean, spread = [2.5, 1.0], [np.sqrt(0.75), np.sqrt(3.0)]
    answer = both(["", ""], ["a", "b"])
    assert answer.components["disagreement"] == pytest.approx([s / 2 for s in spread])
    assert answer.scores == pytest.approx([(m - s) / 2 for m, s in zip(mean, spread, strict=True)])
    with pytest.raises(InputError, match="as many weights"):
        Ensemble([Fixed([1.0])], weights=[1, 2])
    with pytest.raises(InputError, match="penalty"):
        Ensemble([Fixed([1.0])], penalty=-1.0)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(InputError, match="heads >= 1"):
        build(heads=0)
    with pytest.raises(InputError, match="penalty >= 0"):
        build(heads=2, penalty=-1.0)
    choices = [SimpleNamespace(prompt=str(k), chosen="aa", rejected="bb") for k in range(30)]
    with pytest.raises(InputError, match="learns from ratings"):
        fit_heads(build(objective=Ordinal([1.0, 2.0])), choices)
