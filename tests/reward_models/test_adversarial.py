"""The adversarial reward: its discriminator, what it measures, and its state."""

import warnings

import numpy as np
import pytest
import torch
from textgym_people import LetterCounts
from textgym_testing import tiny_lm

from textgym.errors import InputError
from textgym.reward_models.adversarial.adversarial_reward import AdversarialReward, _alike
from textgym.reward_models.adversarial.discriminator import Discriminator
from textgym.reward_models.adversarial.trunk_features import TrunkFeatures
from textgym.saved_fields import SavedFields

CORPUS = [f"{'a' * (1 + i % 4)}b number {i}" for i in range(60)]


def reward_of(corpus=CORPUS, **keywords):
    return AdversarialReward(corpus, LetterCounts(), seed=3, **keywords)


def play(reward, step, texts):
    """A rollout in which the policy writes these."""
    reward.begin_rollout(step)
    answer = reward([""] * len(texts), texts)
    return answer, reward.end_rollout(step).figures


# ---- the discriminator -------------------------------------------------------


def clouds(distance, rows=200):
    rng = np.random.default_rng(0)
    real = rng.standard_normal((rows, 6)).astype(np.float32)
    written = rng.standard_normal((rows, 6)).astype(np.float32)
    written[:, 0] += distance
    return real, written


def test_it_tells_two_clouds_apart_as_well_as_can_be():
    real, written = clouds(3.0)
    judge = Discriminator(6, lipschitz=16.0, seed=0)
    judge.fit(real, written, np.random.default_rng(1), recent=200, steps=200)
    right = (judge.scores(real) > 0).mean() / 2 + (judge.scores(written) < 0).mean() / 2
    assert 0.88 < right < 0.97  # the best possible is Φ(1.5) = .933


def test_its_score_moves_no_faster_than_the_bound():
    real, written = clouds(9.0)
    judge = Discriminator(6, lipschitz=2.0, seed=0)
    judge.fit(real, written, np.random.default_rng(1), recent=200, steps=200, learning_rate=0.1)
    assert np.linalg.norm(judge.weights["first"].numpy(), 2) == pytest.approx(2.0, rel=1e-4)
    assert np.linalg.norm(judge.weights["second"].numpy()) == pytest.approx(1.0, rel=1e-4)
    rows = np.concatenate([real, written])
    gaps = np.abs(judge.scores(rows)[:, None] - judge.scores(rows)[None])
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    assert (gaps <= 2.0 * distances + 1e-4).all()
    assert (gaps > 1.0 * distances).any()  # the bound is used


def test_smoothing_keeps_the_odds_of_real_texts_finite():
    real, written = clouds(50.0)
    found = {}
    for smoothing in (0.0, 0.2):
        judge = Discriminator(6, lipschitz=100.0, seed=0)
        judge.fit(
            real, written, np.random.default_rng(1),
            recent=200, steps=400, learning_rate=0.05, smoothing=smoothing,
        )  # fmt: skip
        found[smoothing] = judge.scores(real).mean()
    assert found[0.2] == pytest.approx(np.log(0.8 / 0.2), abs=0.4) and found[0.0] > 4


def test_a_fit_depends_on_nothing_global():
    weights = []
    for noise in (0, 1):
        torch.manual_seed(noise)
        np.random.seed(noise)
        judge = Discriminator(6, seed=5)
        judge.fit(*clouds(1.0), np.random.default_rng(2), recent=50, steps=5)
        weights.append(judge.state_dict())
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_fit_needs_texts_of_both_kinds():
    real, written = clouds(1.0)
    with pytest.raises(InputError, match="both kinds, got 200 of the corpus and 0 of a policy"):
        Discriminator(6).fit(real, written[:0], np.random.default_rng(0), recent=1)


# ---- the reward --------------------------------------------------------------


def test_before_the_policy_has_written_nothing_is_paid():
    judge = reward_of()
    judge.begin_rollout(0)
    answer = judge(["", ""], ["aab", "cc"])
    assert answer.scores == [0.0, 0.0] and answer.components["is_real"] == [0.5, 0.5]


def test_one_that_knows_nothing_says_so_once_where_no_policy_plays():
    judge = reward_of()
    with pytest.warns(UserWarning, match="no text of a policy yet, so every text earns 0: it lear"):
        assert judge([""], ["aab"]).scores == [0.0]
    assert judge([""], ["aab"]).scores == [0.0]


def test_what_reads_like_the_corpus_is_paid_more():
    reward = reward_of(steps=200, learning_rate=0.03)
    play(reward, 1, ["ccc number 1"] * 30)
    answer = reward(["aa", "", "c"], ["b number 7", "cccc number 3", "a number 5"])
    assert answer.scores[0] > answer.scores[2] > answer.scores[1]
    assert 4.0 >= answer.scores[0] > 1.0 and answer.scores[1] < -1.0
    odds = np.array(answer.components["is_real"])
    inside = np.abs(answer.scores) < 4
    assert np.log(odds / (1 - odds))[inside] == pytest.approx(np.array(answer.scores)[inside])


def test_accuracy_is_measured_on_texts_that_no_fit_has_seen():
    reward = reward_of(steps=100, learning_rate=0.03)
    _, first = play(reward, 1, ["ccc number 1"] * 30)
    assert set(first) == {"adversarial/loss"}  # nothing to measure with yet
    _, second = play(reward, 2, ["dddd number 1"] * 30)  # of another kind: d is new to it
    _, third = play(reward, 3, ["dddd number 1"] * 30)
    assert second["adversarial/accuracy_on_policy"] < 0.5
    assert third["adversarial/accuracy_on_policy"] == 1.0
    mean = (third["adversarial/accuracy_on_policy"] + third["adversarial/accuracy_on_corpus"]) / 2
    assert third["adversarial/accuracy"] == mean
    assert third["adversarial/gap"] > 0
    assert not set(reward.held_out) & set(reward.corpus)
    assert len(reward.held_out) == 12 and len(reward.corpus) == 48


def test_it_says_once_that_it_has_won():
    reward = reward_of(steps=100, learning_rate=0.03)
    with pytest.warns(UserWarning, match="has won: it tells 100% of unseen texts apart, 3 refits"):
        for step in range(4):
            play(reward, step, ["ccc number 1"] * 30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(reward, 5, ["ccc number 1"] * 30)


def test_it_says_that_it_has_lost():
    same = [f"{'a' * (1 + i % 4)}b number {i}" for i in range(100, 160)]
    reward = reward_of(lipschitz=0.5)
    with pytest.warns(UserWarning, match="has lost: it tells at most"):
        for step in range(40):
            play(reward, step, same)


def test_refits_come_every_so_many_rollouts():
    reward = reward_of(every=3)
    seen = [bool(play(reward, step, ["c c"] * 8)[1]) for step in range(7)]
    assert seen == [True, False, True, False, False, True, False]  # the first at once
    assert len(reward.written) == 56


def test_an_empty_rollout_and_texts_of_an_evaluation_leave_it_as_it_is():
    reward = reward_of()
    with pytest.warns(UserWarning, match="has read no text of a policy"):
        reward(["p"], ["scored outside of a rollout"])
    assert reward.end_rollout(1).figures == {} and reward.refits == 0
    assert play(reward, 2, ["", "  "])[1] == {}


def test_the_replay_keeps_the_latest():
    reward = reward_of(replay=10)
    play(reward, 1, ["c"] * 8)
    play(reward, 2, ["dd"] * 8)
    assert reward.written.tolist() == [[0, 0, 1, 0]] * 2 + [[0, 0, 0, 2]] * 8
    assert reward.real.shape == (10, 4)


def test_texts_of_the_corpus_are_drawn_by_length():
    corpus = ["x" * n for n in range(1, 301)]
    drawn = _alike(
        corpus, ["y" * 100] * 200 + ["y"] * 50 + ["y" * 999] * 50, np.random.default_rng(0)
    )
    lengths = np.array([len(text) for text in drawn])
    assert lengths[:200].min() >= 84 and lengths[:200].max() <= 116
    assert lengths[:200].std() > 5  # among the neighbours, not one of them
    assert lengths[200:250].max() <= 32 and lengths[250:].min() >= 269


@pytest.mark.filterwarnings("ignore:.*the discriminator has")
def test_a_state_goes_on_to_the_last_bit():
    texts = [[f"{'c' * (1 + (i + k) % 3)}a {i}" for i in range(20)] for k in range(5)]
    whole = reward_of()
    for step in range(3):
        play(whole, step, texts[step])
    other = reward_of()
    other.load_state_dict(whole.state_dict())
    for step in (3, 4):
        one, two = play(whole, step, texts[step]), play(other, step, texts[step])
        assert one[0].scores == two[0].scores and one[1] == two[1]
    assert np.ptp(one[0].scores) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": "words"}, "features must be 'letters', got 'words'"),
        ({"written": np.zeros((2, 9), np.float32)}, "written must be an array of shape anyx4"),
        ({"real": np.full((2, 4), np.nan, np.float32)}, "written must be finite numbers"),
        ({"refits": -1}, "refits must be a whole number"),
        ({"discriminator": {}}, "the key 'first' is missing"),
    ],
)
def test_a_broken_state_is_refused(change, message):
    reward = reward_of()
    with pytest.raises(InputError, match=message):
        reward.load_state_dict({**reward.state_dict(), **change})


def test_weights_that_are_no_numbers_are_refused():
    judge = Discriminator(4)
    state = {**judge.state_dict(), "bias": np.full(64, np.inf, np.float32)}
    with pytest.raises(InputError, match="bias must be finite numbers"):
        judge.load_state_dict(SavedFields(state, "x"))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"corpus": ["a", "b"]}, "a corpus needs 20 different texts, got 2"),
        ({"corpus": ["a"] * 99}, "a corpus needs 20 different texts, got 1"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"smoothing": 0.5}, r"^adversarial: smoothing must be in \[0, .5\), got 0.5$"),
        ({"learning_rate": 0.0}, r"^adversarial: learning_rate must be in \(0, 1\], got 0.0$"),
        ({"lipschitz": 0.0}, "lipschitz must be a finite number above 0, got 0.0"),
    ],
)
def test_bad_arguments_are_one_line(keywords, message):
    with pytest.raises(InputError, match=message):
        reward_of(**keywords)


def test_features_of_a_trunk_are_standardised_on_the_corpus():
    features = TrunkFeatures(tiny_lm(), ["aab", "b", "abba", "cdcd"])
    rows = features(["aab", "b", "abba", "cdcd"]) * features.size**0.5
    assert rows.mean(axis=0) == pytest.approx(np.zeros(features.size), abs=1e-5)
    assert rows.std(axis=0) == pytest.approx(np.ones(features.size), abs=1e-4)
