"""Layers and parts of a minibatch that are computed again: gradients are equal, less is kept."""

import numpy as np
import pytest
import torch
from front_door import ENV, byte_lm, small_agent

import textgym
from textgym.errors import InputError
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.packing import pack_segments, parts_of
from textgym.tokenizer import Tokenizer


def segments():
    rng = np.random.default_rng(0)
    lengths = [17, 12, 12, 9, 4, 3]
    tokens = [rng.integers(3, 250, length) for length in lengths]
    acted = [np.arange(length // 2, length) for length in lengths]
    packed = pack_segments(tokens, acted)
    return packed, torch.as_tensor(rng.integers(3, 250, len(packed)))


def outputs_gradients_and_bytes(agent):
    """What `evaluate_actions` gives, its gradients, and bytes that stand between the passes."""
    packed, actions = segments()
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    own = {w.untyped_storage().data_ptr() for w in agent.policy.parameters()}
    agent.policy.zero_grad(set_to_none=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        values, log_prob, entropy = agent.policy.evaluate_actions(packed, actions)
    weights = torch.linspace(-1, 1, len(actions))
    ((log_prob + values[:, 0]) * weights + 0.1 * entropy).sum().backward()
    gradients = [w.grad for w in agent.policy.parameters() if w.grad is not None]
    size = sum(count for place, count in kept.items() if place not in own)
    return [values, log_prob, entropy, *gradients], size


def agent_of(**keywords):
    return small_agent(lm=byte_lm(num_hidden_layers=3), **keywords)


@pytest.mark.parametrize(
    "keywords",
    [
        {"gradient_checkpointing": True},
        {"micro_batch_tokens": 20},
        {"micro_batch_tokens": 20, "gradient_checkpointing": True},
        {"micro_batch_tokens": 1, "lora_rank": 2, "use_dora": True},
        {"micro_batch_tokens": 20, "value_trunk": "own"},
        {"gradient_checkpointing": True, "dtype": "bfloat16"},
    ],
    ids=str,
)
def test_gradients_are_equal_and_less_is_kept(keywords):
    again = ("micro_batch_tokens", "gradient_checkpointing")
    plain = {name: value for name, value in keywords.items() if name not in again}
    expected, at_once = outputs_gradients_and_bytes(agent_of(**plain))
    found, kept = outputs_gradients_and_bytes(agent_of(**keywords))
    assert len(found) == len(expected) > 5
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert kept < 0.75 * at_once


@pytest.mark.parametrize("name", ["ppo", "grpo", "dpo", "nlpo"])
def test_training_is_nearly_the_same(name):
    settings = {"n_envs": 4, "seed": 0, "env_kwargs": {"max_new_tokens": 6}, "policy": byte_lm()}
    settings |= {"n_steps": 32} if name in ("ppo", "nlpo") else {}
    settings |= {} if name in ("dpo",) else {"learning_rate": 1e-4}
    weights = []
    for again in ({}, {"gradient_checkpointing": True, "micro_batch_tokens": 30}):
        agent = textgym.make_agent(name, ENV, **settings, **again)
        agent.learn(130)
        weights.append(torch.cat([w.detach().flatten() for w in agent.policy.lm.parameters()]))
    torch.testing.assert_close(*weights, rtol=0, atol=2e-5)


def test_dropout_is_the_same_the_second_time():
    lm = byte_lm(num_hidden_layers=2)
    lm.drop = 0.5
    lm.train()
    tokens = torch.arange(4, 40)[None]
    found = []
    for again in (False, True):
        lm.model.gradient_checkpointing = again
        lm.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        lm(tokens).square().sum().backward()
        found.append([w.grad for w in lm.parameters()])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_parts_by_hand():
    packed, _ = segments()
    parts = parts_of(packed, 25)
    assert [part.lengths.tolist() for part in parts] == [[17], [12, 12], [9, 4, 3]]
    assert torch.equal(torch.cat([part.tokens for part in parts]), packed.tokens)
    seen = torch.cat([part.tokens[part.acted_index] for part in parts])
    assert torch.equal(seen, packed.tokens[packed.acted_index])
    assert [len(part.lengths) for part in parts_of(packed, 1)] == [1] * 6
    assert len(parts_of(packed, 10**6)) == 1


def test_refused_in_one_line():
    with pytest.raises(InputError, match="micro_batch_tokens must be a whole number from 1"):
        small_agent(micro_batch_tokens=0)
    for name in ("trpo", "dqn"):
        with pytest.raises(InputError, match=f"keyword of agent '{name}'.*micro_batch_tokens"):
            textgym.make_agent(name, ENV, policy=byte_lm(), n_envs=4, micro_batch_tokens=64)
    with pytest.raises(InputError, match="gradient_checkpointing must be True or False, got 3"):
        small_agent(gradient_checkpointing=3)
    lstm = CausalLM.new(
        Tokenizer.byte(), architecture="lstm", hidden_size=16, max_position_embeddings=96
    )
    with pytest.raises(InputError, match="gradient_checkpointing is of our own transformer"):
        small_agent(lm=lstm, gradient_checkpointing=True)
    with pytest.raises(InputError, match="dtype='bfloat16' is of the transformer"):
        small_agent(lm=lstm, dtype="bfloat16")
