"""`dtype="bfloat16"`: the first ratio is one, what learns is float32, the sampler's distance."""

import warnings

import numpy as np
import pytest
import torch
from front_door import ENV, byte_lm, read_lines, small_agent

import textgym
from textgym.agents.building.checkpoint import kl_penalty, save_agent
from textgym.agents.rollouts.episode_collector import EpisodeCollector
from textgym.errors import InputError
from textgym.policies.language_model.cached_decoder import CachedDecoder
from textgym.policies.sb3 import text_policy
from textgym.policies.sb3.exchange import Exchange

ON_POLICY = ("ppo", "a2c", "trpo", "maskable_ppo", "nlpo")
GROUPS = ("grpo", "rloo", "reinforce", "best_of_n", "dpo")
HALF = {
    "autocast": {"dtype": "bfloat16"},
    "weights": {},
    "lora": {"dtype": "bfloat16", "lora_rank": 2},
}


def wide_lm():
    """Logits that are far apart, so that rounding shows."""
    lm = byte_lm(num_hidden_layers=2)
    with torch.no_grad():
        for weight in lm.parameters():
            weight.mul_(4.0)
    return lm


def made(name, kind="autocast", **keywords):
    lm = wide_lm().to(torch.bfloat16) if kind == "weights" else wide_lm()
    kl = {} if name == "best_of_n" else {"kl_coef": 0.1}
    settings = {"policy": lm, "n_envs": 4, "seed": 0, "env_kwargs": {"max_new_tokens": 12}}
    if name in ("ppo", "maskable_ppo", "nlpo"):
        settings |= {"n_steps": 32, "batch_size": 128}
    return textgym.make_agent(name, ENV, **settings, **{**HALF[kind], **kl, **keywords})


def first_ratios(agent):
    """Ratios `[A]` of the first minibatch of an update, after some updates."""
    agent.learn(200)
    agent.policy.set_training_mode(False)
    if agent.rollout_buffer is None:  # tokens of an older policy keep the ratio to that
        agent._collector.forget_open_rows()
    callback = agent._init_callback(None)
    buffer = agent.rollout_buffer
    agent.collect_rollouts(agent.env, callback, buffer, n_rollout_steps=agent.n_steps)
    agent.policy.set_training_mode(True)
    if buffer is not None:
        batch = next(iter(buffer.get(40)))
    else:
        batch = next(agent._batches())
    with torch.no_grad():
        _, log_prob, _ = agent.policy.evaluate_actions(batch.observations, batch.actions)
    return (log_prob - batch.old_log_prob).exp()


@pytest.mark.parametrize("kind", sorted(HALF))
@pytest.mark.parametrize("name", ["ppo", "trpo", "nlpo", "grpo", "rloo"])
def test_the_first_ratio_is_one(name, kind):
    agent = made(name, kind)
    ratio = first_ratios(agent)
    assert len(ratio) >= 12 and float((ratio - 1).abs().max()) < 1e-5


def rough(agent):
    """A sampler .01 off: how a model this small rounds, and whether at all, is the processor's."""
    forward = agent.policy.forward

    def off(*arguments, **keywords):
        actions, values, log_probs = forward(*arguments, **keywords)
        return actions, values, log_probs + 0.01

    agent.policy.forward = off
    return agent


def test_without_rescoring_it_would_not_be_one():
    ratio = first_ratios(rough(made("ppo")))
    assert float((ratio - 1).abs().max()) < 1e-5
    agent = rough(made("ppo"))
    Exchange.of(agent.observation_space).log_probs_of = None
    ratio = first_ratios(agent)
    assert float((ratio - 1).abs().max()) > 1e-3
    full = made("ppo", dtype="float32")
    assert Exchange.of(full.observation_space).log_probs_of is None


def test_tokens_of_an_open_text_are_rescored_once_before_the_policy_moves():
    collector = EpisodeCollector(2, 1, pad_token_id=0)
    nothing = np.zeros(2), np.array([False, False]), [{}, {}]
    rows = np.array([[5, 6, 0, 0], [5, 7, 0, 0]])
    collector.add(rows, np.array([8, 9]), np.array([-1.0, -2.0]), *nothing)
    seen = []

    def answer(value):
        def log_probs_of(packed, actions):
            seen.append((packed.tokens.tolist(), packed.acted_index.tolist(), actions.tolist()))
            return np.full(len(actions), value, dtype=np.float32)

        return log_probs_of

    rows = np.array([[5, 6, 8, 0], [5, 7, 9, 0]])
    assert collector.rescore(rows, answer(-0.5)) == pytest.approx((0.5 + 1.5) / 2)
    assert seen == [([5, 6, 5, 7], [1, 3], [8, 9])]
    ends = np.zeros(2), np.array([True, False]), [{}, {}]
    collector.add(rows, np.array([1, 2]), np.array([-3.0, -4.0]), *ends)
    rows = np.array([[4, 0, 0, 0], [5, 7, 9, 2]])
    assert collector.rescore(rows, answer(-0.75)) == pytest.approx((2.25 + 3.25) / 2)
    assert seen[1] == ([5, 6, 8, 5, 7, 9], [1, 2, 4, 5], [8, 1, 9, 2])
    (episode,) = collector.take(1)
    assert episode.log_probs.tolist() == collector._rows[1].log_probs == [-0.5, -0.75]
    assert collector.rescore(rows, answer(0.0)) == 0.0 and len(seen) == 2


def test_what_learns_stays_in_float32_and_the_gap_is_recorded(tmp_path):
    agent = rough(made("ppo", out=tmp_path / "run"))
    assert {w.dtype for w in agent.policy.parameters()} == {torch.float32}
    agent.learn(256)
    rows = [row for row in read_lines(tmp_path / "run" / "metrics.jsonl") if "kl/per_token" in row]
    assert rows and all(0 < row["policy/sampler_gap"] < 0.5 for row in rows)
    assert abs(rows[0]["kl/per_token"]) < 1e-6  # both scored alike, the policy has not moved
    plain = made("ppo", dtype="float32", out=tmp_path / "plain")
    plain.learn(128)
    assert not any(
        "policy/sampler_gap" in row for row in read_lines(tmp_path / "plain" / "metrics.jsonl")
    )


@pytest.mark.parametrize("name", ["ppo", "grpo"])
def test_it_learns_nearly_what_float32_learns(name):
    """One update on the same tokens: gradients within the rounding of bfloat16."""
    full, half = made(name, dtype="float32"), made(name)
    row = torch.randint(3, 250, (6, 20), generator=torch.Generator().manual_seed(1))
    actions = torch.randint(3, 250, (6,), generator=torch.Generator().manual_seed(2))
    found = []
    for agent in (full, half):
        _, log_prob, entropy = agent.policy.evaluate_actions(row, actions)
        assert log_prob.dtype == entropy.dtype == torch.float32
        (log_prob.sum() + 0.1 * entropy.sum()).backward()
        found.append(torch.cat([w.grad.flatten() for w in agent.policy.lm.parameters()]))
    assert found[1].dtype == torch.float32
    cosine = torch.nn.functional.cosine_similarity(*found, dim=0)
    assert 0.99 < float(cosine) < 1.0


@pytest.mark.parametrize("name", [*ON_POLICY, *GROUPS])
def test_every_word_trains_and_comes_back(name, tmp_path):
    agent = made(name, "lora")
    assert agent.policy.lm.dtype == torch.bfloat16
    agent.learn(100)
    save_agent(agent, tmp_path / "saved")
    again = textgym.load_agent(tmp_path / "saved")
    ours, theirs = agent.policy.state_dict(), again.policy.state_dict()
    assert all(torch.equal(w, theirs[k]) and w.dtype == theirs[k].dtype for k, w in ours.items())
    assert again.policy.dtype == torch.bfloat16
    if name != "best_of_n":
        assert kl_penalty(again).dtype == torch.bfloat16
    again.learn(16, reset_num_timesteps=False)


def test_refused_in_one_line():
    with pytest.raises(InputError, match="dtype must be one of float32, bfloat16, got 'half'"):
        made("ppo", dtype="half")
    with pytest.raises(InputError, match="dtype"):
        textgym.make_agent("dqn", ENV, policy=byte_lm(), n_envs=4, dtype="bfloat16")


class Plain(CachedDecoder):
    """Without weights of its own: autocast converts them at every token."""

    def _fit(self, rows):
        dtype, self.dtype = self.dtype, torch.float32
        super()._fit(rows)
        self.dtype = dtype


@pytest.mark.parametrize("keywords", [{}, {"lora_rank": 2}, {"lora_rank": 2, "use_dora": True}])
def test_weights_converted_once_a_rollout_write_what_autocast_writes(keywords, monkeypatch):
    agents = []
    for decoder in (CachedDecoder, Plain):
        monkeypatch.setattr(text_policy, "CachedDecoder", decoder)
        agents.append(made("ppo", **keywords))
        agents[-1].learn(256)
    converted, plain = (agent.policy for agent in agents)
    for a, b in zip(converted.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


@torch.no_grad()
def test_only_the_linear_layers_are_converted_and_anew_after_an_update():
    policy = made("ppo").policy
    rows = torch.full((2, 8), policy.lm.tokenizer.pad_token_id)
    rows[:, 0] = 5
    for _ in range(2):
        policy(rows)
        view = policy._decoders["rollout"].decoding
        for a, b in zip(policy.lm.modules(), view.modules(), strict=True):
            if isinstance(a, torch.nn.Linear):
                assert torch.equal(b.weight, a.weight.to(torch.bfloat16))
            elif getattr(a, "weight", None) is not None:
                assert b.weight is a.weight
        assert view.tokenizer is policy.lm.tokenizer
        policy.lm.lm_head.weight.mul_(1.5)
    policy.set_training_mode(True)
    assert policy._decoders["rollout"].decoding is policy.lm  # no third copy during an update


@pytest.mark.parametrize("is_slow", [True, False])
def test_a_processor_without_bfloat16_is_named_once(monkeypatch, is_slow):
    monkeypatch.setattr("textgym.agents.building.build.has_slow_bfloat16", lambda device: is_slow)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        small_agent(dtype="bfloat16")
        small_agent()
    said = [str(w.message) for w in heard]
    assert len(said) == is_slow
    assert not is_slow or "leave dtype out" in said[0]
