"""Every algorithm against the exact optimum of tasks whose completions can be listed.

One seed and a quick budget; `make learning` runs three seeds with the full one. Settings and bars
stand in `tests/support/textgym_oracle.py`.
"""

from collections import Counter

import pytest
import torch
from textgym_oracle import (
    BETA,
    ELSEWHERE,
    FEW,
    ONE,
    QUICK_BARS,
    REGULARISED,
    SHARE_OF_HIGHEST,
    UNREGULARISED,
    AnotherTextsScore,
    oracle_of,
    start_model,
    train,
)

import textgym
from textgym import registry
from textgym.agents.evaluation.oracle import total_variation
from textgym.agents.evaluation.play import play
from textgym.policies.language_model.sampling import Sampling

CASES = [
    (name, env)
    for name, envs in REGULARISED.items()
    for env, setting in envs.items()
    if setting.quick
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("env", [ONE, FEW])
def test_the_start_is_far_from_the_optimum(env, seed):
    oracle = oracle_of(env, seed)
    assert oracle.distance(start_model(env, seed)) > 0.5
    assert oracle.highest_objective - oracle.objective(start_model(env, seed)) > 0.1
    # ... and the optimum is not one text alone, nor where a flat reference would lead to.
    pairs = list(zip(oracle.log_optimum, oracle.completions, strict=True))
    assert all(0.1 < float(log_optimum.exp().max()) < 0.7 for log_optimum, _ in pairs)
    flat = [(c.rewards / BETA).softmax(-1) for _, c in pairs]
    apart = [total_variation(p.exp(), q) for (p, _), q in zip(pairs, flat, strict=True)]
    assert max(apart) > 0.1


@pytest.mark.parametrize(("name", "env"), CASES)
def test_a_kl_regularised_algorithm_comes_to_the_optimum(name, env):
    setting = REGULARISED[name][env]
    lm = train(name, env, setting, seed=0, tokens=setting.quick, kl_coef=BETA)
    assert oracle_of(env, 0).distance(lm) < QUICK_BARS[env]


@pytest.mark.filterwarnings("ignore:all .* texts of the last")  # it has found the best one
@pytest.mark.parametrize("name", UNREGULARISED)
def test_without_a_kl_term_nearly_all_reward_is_earned(name):
    setting = UNREGULARISED[name][ONE]
    lm = train(name, ONE, setting, seed=0, tokens=setting.quick)
    oracle = oracle_of(ONE, 0)
    assert oracle.reward(lm) > SHARE_OF_HIGHEST * oracle.highest_reward
    assert oracle.reward(start_model(ONE, 0)) < 0.7 * oracle.highest_reward
    assert oracle.distance(lm) > 0.3  # so the bar of the test above sees a missing KL term


@pytest.mark.filterwarnings("ignore:all .* texts of the last")  # it has found the best one
@pytest.mark.parametrize("name", [name for name in UNREGULARISED if name != "qrdqn"])
def test_shuffled_rewards_fail_that_bar(name):
    setting = UNREGULARISED[name][ONE]
    shuffled = AnotherTextsScore(textgym.get_task(ONE).reward)
    lm = train(name, ONE, setting, seed=0, tokens=setting.quick, reward=shuffled)
    oracle = oracle_of(ONE, 0)
    assert oracle.reward(lm) < 0.9 * oracle.highest_reward


def test_what_a_model_plays_is_what_the_oracle_lists():
    """Texts played in the environment, counted, against the listed probabilities."""
    lm, count = start_model(FEW, 1), 6_000
    env = textgym.make_vec(FEW, n_envs=1_000, seed=0, tokenizer=lm.tokenizer)
    episodes = play(lm, env, count, sampling=Sampling(), seed=0)
    oracle = oracle_of(FEW, 1)
    for completions, log_prob in zip(oracle.completions, oracle.log_reference, strict=True):
        mine = [e for e in episodes if e.prompt == completions.prompt.text]
        counts = Counter(e.completion for e in mine)
        assert set(counts) <= set(completions.texts)
        shares = torch.tensor([counts[text] / len(mine) for text in completions.texts])
        # E|share - p| ≤ √(p (1 - p) / n) for each text, so that half the sum bounds E[TV].
        p = log_prob.exp()
        bound = float((p * (1 - p) / len(mine)).sqrt().sum()) / 2
        assert total_variation(shares.double(), p) < 1.2 * bound < 0.1
        paid = {e.completion: e.reward for e in mine}
        listed = dict(zip(completions.texts, completions.rewards.tolist(), strict=True))
        assert all(listed[text] == pytest.approx(reward) for text, reward in paid.items())


def test_every_algorithm_is_held_against_an_oracle():
    named = {*REGULARISED, *UNREGULARISED, *ELSEWHERE}
    assert {name for name in registry.agents.names() if "/" not in name} <= named
    for name, setting in {**REGULARISED, **UNREGULARISED}.items():
        assert name in registry.agents and set(setting) == {ONE, FEW}
