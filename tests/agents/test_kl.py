"""The KL term: its estimators, its pass, its place in the reward, its controller."""

import math
import pickle

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from textgym_testing import (
    NaiveTokenPolicy,
    TeeBuffer,
    letter_env,
    letter_tokenizer,
    rollout,
    set_up,
    tiny_lm,
)

from textgym.agents.rollouts.kl import KLPenalty, kl_estimate
from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.errors import InputError
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy


def kl_agent(kl, *, lm=None, buffer=TeeBuffer, policy=None, **env):
    return set_up(
        PPO(
            TextActorCriticPolicy,
            letter_env(3, **env),
            n_steps=8,
            batch_size=24,
            learning_rate=0.05,
            policy_kwargs={"model": lm or tiny_lm(spread=6.0), **(policy or {})},
            rollout_buffer_class=buffer,
            rollout_buffer_kwargs={"kl": kl},
            device="cpu",
            seed=2,
        )
    )


def test_estimators_by_hand():
    log_prob = torch.tensor([0.5, 0.25]).log()
    reference = torch.tensor([0.25, 0.5]).log()
    two = math.log(2)
    for name, expected in (
        ("k1", [two, -two]),
        ("k2", [two**2 / 2, two**2 / 2]),
        ("k3", [0.5 - 1 + two, 2 - 1 - two]),
    ):
        torch.testing.assert_close(kl_estimate(log_prob, reference, name), torch.tensor(expected))
    with pytest.raises(InputError, match="must be one of k1, k2, k3, got 'k4'"):
        kl_estimate(log_prob, reference, "k4")


def test_k1_and_k3_are_unbiased_and_k2_and_k3_never_negative():
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.randn(9, generator=generator).log_softmax(-1) for _ in range(2))
    true = float((p.exp() * (p - q)).sum())
    for name in ("k1", "k3"):
        assert float((p.exp() * kl_estimate(p, q, name)).sum()) == pytest.approx(true, abs=1e-6)
    for name in ("k2", "k3"):
        assert bool((kl_estimate(p, q, name) >= 0).all())


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.3, "top_k": 3}])
@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_the_whole_sequence_pass_equals_one_pass_for_each_token(estimator, sampling):
    reference = tiny_lm(spread=5.0, seed=8)
    kl = KLPenalty(reference, 0.3, kl_estimator=estimator, **sampling)
    agent = kl_agent(kl, policy=sampling, max_episode_steps=5)
    rollout(agent)
    buffer = rollout(agent)
    stock = buffer.stock
    source = TextActorCriticPolicy(
        agent.observation_space, agent.action_space, lambda _: 0.1, model=reference, **sampling
    )
    naive = NaiveTokenPolicy(
        agent.observation_space, agent.action_space, lambda _: 0.1, source=source
    )
    for step in range(8):
        for env in range(3):
            row = torch.as_tensor(stock.observations[step, env])
            played = int(stock.actions[step, env, 0])
            logits, _ = naive.one(row, torch.tensor(played))
            theirs = logits.log_softmax(-1)[played].detach()
            ours = torch.as_tensor(stock.log_probs[step, env])
            expected = float(kl_estimate(ours, theirs, estimator))
            assert buffer.kl_raw[step, env] == pytest.approx(expected, abs=1e-5)
    assert np.abs(buffer.kl_raw).max() > 0.1


def test_the_reward_is_the_environments_less_the_weighted_term():
    kl = KLPenalty(tiny_lm(spread=5.0, seed=8), 0.3)
    agent = kl_agent(kl, max_episode_steps=4)
    buffer = rollout(agent)
    expected = buffer.stock.rewards - 0.3 * buffer.kl_raw  # the stock one saw no KL term
    np.testing.assert_allclose(buffer.rewards, expected, atol=1e-6)
    plain = buffer.stock
    plain.rewards[:] = expected
    last = torch.zeros(3)
    buffer.rewards[:] = expected
    EpisodeRolloutBuffer.__mro__[1].compute_returns_and_advantage(buffer, last, np.zeros(3, bool))
    plain.compute_returns_and_advantage(last, np.zeros(3, bool))
    np.testing.assert_allclose(buffer.advantages, plain.advantages, atol=1e-6)


def test_the_totals_per_episode_are_sums_over_its_tokens_across_rollouts():
    kl = KLPenalty(tiny_lm(spread=5.0, seed=8), 0.3)
    agent = kl_agent(kl, max_new_tokens=11, prompts=["a"])
    sums, finished = np.zeros(3), 0
    for _ in range(5):
        buffer = rollout(agent)
        begins = np.vstack([buffer.episode_starts, agent._last_episode_starts])
        expected = []
        for step in range(8):
            sums = np.where(begins[step], 0.0, sums) + buffer.kl_raw[step]
            expected += sums[begins[step + 1].astype(bool)].tolist()
        np.testing.assert_allclose(sorted(buffer.episode_kl), sorted(expected), atol=1e-4)
        finished += len(expected)
    assert finished > 10


def test_equal_models_have_no_kl_until_the_policy_moves():
    lm = tiny_lm(spread=6.0)
    agent = kl_agent(KLPenalty(lm, 0.1), lm=lm)
    buffer = rollout(agent)
    np.testing.assert_allclose(buffer.kl_raw, 0.0, atol=1e-5)
    agent.train()
    buffer = rollout(agent)
    assert np.abs(buffer.kl_raw).max() > 1e-3


def test_the_controller_by_hand():
    kl = KLPenalty(tiny_lm(), 0.1, kl_target=2.0, kl_horizon=100)
    kl.update(3.0, 10)  # 50% too much, clipped to 20%: 0.1 · (1 + 0.2 · 0.1)
    assert kl.coefficient == pytest.approx(0.102)
    kl.update(1.9, 50)  # 5% too little
    assert kl.coefficient == pytest.approx(0.102 * (1 - 0.05 * 0.5))
    kl.coefficient = 1.0
    kl.update(0.0, 10_000)  # no step is longer than one horizon's
    assert kl.coefficient == pytest.approx(0.8)
    kl.update(5.0, 0)
    assert kl.coefficient == pytest.approx(0.8)
    fixed = KLPenalty(tiny_lm(), 0.1)
    fixed.update(99.0, 10)
    assert fixed.coefficient == 0.1


def test_the_controller_follows_the_rollouts():
    agent = kl_agent(
        KLPenalty(
            tiny_lm(spread=5.0, seed=8), 0.1, kl_target=1e-3, kl_horizon=50, kl_estimator="k3"
        )
    )
    buffer = rollout(agent)
    count = len(buffer.episode_kl)
    assert count > 3
    assert buffer.kl.coefficient == pytest.approx(0.1 * (1 + 0.2 * count / 50))
    # The rewards of this rollout were weighted with the coefficient before.
    np.testing.assert_allclose(
        buffer.rewards, buffer.stock.rewards - 0.1 * buffer.kl_raw, atol=1e-6
    )


def test_the_reference_is_a_copy_that_its_owner_cannot_move():
    lm = tiny_lm(spread=6.0)
    kl = KLPenalty(lm, 0.1)
    with torch.no_grad():
        lm.lm_head.weight.add_(5.0)
    assert not torch.equal(kl.reference(torch.device("cpu")).lm_head.weight, lm.lm_head.weight)


def test_pickling_leaves_out_weights_that_a_path_can_bring_back(tmp_path):
    lm = tiny_lm(spread=6.0)
    lm.save_pretrained(tmp_path / "lm")
    by_path, by_model = KLPenalty(tmp_path / "lm", 0.2), KLPenalty(lm, 0.2)
    device = torch.device("cpu")
    assert torch.equal(by_path.reference(device).lm_head.weight, lm.lm_head.weight)
    small, large = pickle.dumps(by_path), pickle.dumps(by_model)
    assert len(small) < 2_000 < len(large)
    again = pickle.loads(small)  # noqa: S301
    assert again.coefficient == 0.2 and again.model is None
    assert torch.equal(again.reference(device).lm_head.weight, lm.lm_head.weight)


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"kl_coef": -1.0}, "kl_coef must be a finite number from 0 .* got -1"),
        ({"kl_coef": math.nan}, "kl_coef must be a finite number from 0 .* got nan"),
        ({"kl_coef": 0.0, "kl_target": 1.0}, "needs a kl_coef above 0 to start from"),
        ({"kl_target": -1.0}, "kl_target must be a finite number above 0"),
        ({"kl_estimator": "k9"}, "kl_estimator must be one of"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_options_that_make_no_sense(keywords, message):
    with pytest.raises(InputError, match=message):
        KLPenalty(tiny_lm(), **keywords)


def test_a_reference_with_another_vocabulary_is_refused():
    agent = kl_agent(KLPenalty(tiny_lm(letter_tokenizer("abcdef")), 0.1))
    with pytest.raises(InputError, match=r"reference of the KL term has 9 tokens, but .* 7"):
        rollout(agent)
