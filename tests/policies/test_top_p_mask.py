"""The mask of an older copy: it counts in sampling as in the loss, cached or not."""

import copy

import numpy as np
import pytest
import torch
from front_door import small_agent
from textgym_agents import SGD
from textgym_testing import PAD, assert_same_weights, letter_env, tiny_lm

from textgym.errors import InputError
from textgym.policies.language_model import chunks
from textgym.policies.language_model.packing import pack_rows, row_lengths
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy
from textgym.policies.sb3.top_p_mask import TopPMaskPolicy

NEVER = [0, 1]  # pad and bos


def new_policy(cls=TopPMaskPolicy, *, lm=None, mask=None, **keywords):
    """A policy, with a mask of another model if one is given."""
    env = letter_env()
    torch.manual_seed(0)  # of SB3's seed
    keywords = {"model": lm or tiny_lm(spread=6.0), **SGD, **keywords}
    policy = cls(env.observation_space, env.action_space, lambda _: 0.1, **keywords)
    if mask is not None:
        policy.mask_lm.load_state_dict(mask.state_dict())
    policy.set_training_mode(False)
    return policy


def row(*tokens, width=11):
    return torch.tensor([[*tokens, *[PAD] * (width - len(tokens))]])


def is_likely(mask, tokens, top_p, temperature=1.0):
    """bool [v]: the smallest set of likeliest tokens that holds `top_p`, by one plain pass."""
    logits = mask(torch.tensor([tokens]))[0, -1].detach() / temperature
    logits[NEVER] = -torch.inf
    probabilities = logits.softmax(-1)
    inside, held = torch.zeros(len(logits), dtype=torch.bool), 0.0
    for token in probabilities.argsort(descending=True).tolist():
        if held >= top_p:
            break
        inside[token] = True
        held += float(probabilities[token])
    return inside


@pytest.mark.parametrize("temperature", [1.0, 1.5])
@pytest.mark.parametrize("top_p", [0.3, 0.6, 0.9])
def test_the_distribution_is_the_policys_over_what_the_mask_thinks_likely(top_p, temperature):
    mask = tiny_lm(spread=8.0, seed=8)
    policy = new_policy(mask=mask, mask_top_p=top_p, temperature=temperature)
    sizes = set()
    for tokens in ([3], [4, 5, 6], [6, 6, 2, 3, 3]):
        inside = is_likely(mask, tokens, top_p, temperature)
        logits = policy.lm(torch.tensor([tokens]))[0, -1].detach() / temperature
        expected = logits.masked_fill(~inside, -torch.inf).softmax(-1)
        with torch.no_grad():
            found = policy.get_distribution(row(*tokens)).distribution.probs[0]
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        sizes.add(int(inside.sum()))
    assert min(sizes) < 5


def test_a_token_that_the_policy_likes_and_the_mask_does_not_is_never_drawn():
    lm, mask = tiny_lm(spread=6.0), tiny_lm(spread=6.0, seed=8)
    plain = new_policy(TextActorCriticPolicy, lm=lm)
    policy = new_policy(lm=lm, mask=mask, mask_top_p=0.3)
    rows = row(3, 4).repeat(500, 1)
    inside = is_likely(mask, [3, 4], 0.3)
    with torch.no_grad():
        liked = plain.forward(rows)[0]
        actions, _, log_probs = policy.forward(rows)
        predicted = [policy._predict(rows), policy._predict(rows, deterministic=True)]
    assert (~inside[liked]).float().mean() > 0.3  # without the mask they are drawn all the time
    for drawn in (actions, *predicted):
        assert inside[drawn].all()
    logits = lm(torch.tensor([[3, 4]]))[0, -1].detach()
    expected = logits.masked_fill(~inside, -torch.inf).log_softmax(-1)[actions]
    torch.testing.assert_close(log_probs, expected, rtol=1e-5, atol=1e-5)


def play(policy, steps, rows):
    """Rows, tokens and log-probabilities of some steps, as a rollout takes them."""
    seen = []
    for _ in range(steps):
        with torch.no_grad():
            actions, _, log_probs = policy.forward(rows)
        seen.append((rows, actions, log_probs))
        lengths = row_lengths(rows, PAD)
        rows = rows.scatter(1, lengths[:, None], actions[:, None])
    return seen


START = torch.cat([row(3), row(4, 5, 6), row(5, 6, 3, 4, 4), row(6, 6)])


def test_what_was_drawn_is_evaluated_as_it_was_drawn():
    policy = new_policy(mask=tiny_lm(spread=5.0, seed=8), mask_top_p=0.6)
    for rows, actions, log_probs in play(policy, 5, START):
        for observations in (rows, pack_rows(rows, row_lengths(rows, PAD))):
            _, evaluated, entropy = policy.evaluate_actions(observations, actions)
            torch.testing.assert_close(evaluated, log_probs, rtol=0, atol=1e-5)
        probabilities = policy.get_distribution(rows).distribution.probs
        torch.testing.assert_close(entropy, -(probabilities * probabilities.log()).nansum(-1))


@pytest.mark.parametrize("use_cache", [True, False])
def test_after_a_refresh_the_sampler_follows_the_new_mask(use_cache):
    policy = new_policy(mask=tiny_lm(spread=5.0, seed=8), mask_top_p=0.3, use_cache=use_cache)
    rows = play(policy, 3, START)[-1][0]
    for source in (policy.mask_lm, policy.lm):
        for i in range(len(rows)):
            tokens = rows[i][rows[i] != PAD].tolist()
            inside = is_likely(source, tokens, 0.3)
            with torch.no_grad():
                draws = [int(policy.forward(rows)[0][i]) for _ in range(5)]
                draws.append(int(policy._predict(rows)[i]))
            assert inside[draws].all()
        policy.refresh_mask()
    assert_same_weights(policy.mask_lm, policy.lm)


def test_with_and_without_a_cache_the_same_tokens_are_drawn():
    cached, plain = (
        new_policy(mask=tiny_lm(spread=5.0, seed=8), mask_top_p=0.6, use_cache=use_cache)
        for use_cache in (True, False)
    )
    rows = START
    for _ in range(2):
        ours, theirs = play(cached, 3, rows), play(plain, 3, rows)
        for (_, actions, log_probs), (_, expected, others) in zip(ours, theirs, strict=True):
            assert torch.equal(actions, expected)
            torch.testing.assert_close(log_probs, others, rtol=0, atol=1e-5)
        rows = ours[-1][0]
        for policy in (cached, plain):  # in mid-rollout: the caches must not answer from before
            with torch.no_grad():
                policy.lm.model.embed_tokens.weight.mul_(1.1)
            policy.refresh_mask()


def test_the_whole_probability_masks_nothing():
    lm = tiny_lm(spread=6.0)
    policies = [
        new_policy(TextActorCriticPolicy, lm=lm),
        new_policy(lm=lm, mask=tiny_lm(spread=5.0, seed=8), mask_top_p=1.0),
    ]
    plain, masked = (play(policy, 4, START) for policy in policies)
    for (_, actions, log_probs), (_, expected, others) in zip(plain, masked, strict=True):
        assert torch.equal(actions, expected) and torch.equal(log_probs, others)


def test_the_mask_does_not_learn():
    policy = new_policy(mask_top_p=0.5)
    before = copy.deepcopy(policy.mask_lm)
    policy.set_training_mode(True)
    rows = START
    _, log_prob, _ = policy.evaluate_actions(rows, torch.tensor([3, 4, 5, 6]))
    (-log_prob.mean()).backward()
    policy.optimizer.step()
    assert_same_weights(policy.mask_lm, before)
    with pytest.raises(AssertionError):
        assert_same_weights(policy.lm, before, 1e-4)
    trained = {id(p) for group in policy.optimizer.param_groups for p in group["params"]}
    assert not any(id(p) in trained or p.requires_grad for p in policy.mask_lm.parameters())


def test_saving_keeps_the_mask(tmp_path):
    policy = new_policy(mask=tiny_lm(spread=5.0, seed=8), mask_top_p=0.4)
    policy.save(tmp_path / "policy.pth")
    again = TopPMaskPolicy.load(tmp_path / "policy.pth", device="cpu")
    assert again.mask_top_p == 0.4
    assert_same_weights(again, policy)
    with torch.no_grad():
        expected = policy.get_distribution(START).distribution.probs
        assert torch.equal(again.get_distribution(START).distribution.probs, expected)
    assert int((expected == 0).sum()) > np.prod(expected.shape) / 2


@pytest.mark.parametrize(
    "keywords, message",
    [
        ({"mask_top_p": 0.0}, "mask_top_p must be above 0 and at most 1, got 0"),
        ({"mask_top_p": 1.5}, "mask_top_p must be above 0 and at most 1, got 1.5"),
        ({"top_k": 3}, "takes the place of top_k and top_p: give it alone"),
        ({"top_p": 0.9}, "takes the place of top_k and top_p: give it alone"),
    ],
)
def test_keywords_that_make_no_sense(keywords, message):
    with pytest.raises(InputError, match=message):
        new_policy(**keywords)


def test_the_mask_is_read_once_however_many_chunks_there_would_be(monkeypatch):
    agent = small_agent("nlpo", n_steps=16, dtype="bfloat16")
    calls = []
    agent.policy.mask_lm.model.register_forward_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(chunks, "LARGEST", 259 * 2)  # two rows of the byte tokenizer
    rows = torch.full((6, 4), 5)
    packed, actions = pack_rows(rows, torch.full((6,), 4)), torch.full((6,), 6)
    agent.policy._log_probs_of(packed, actions)
    assert len(calls) == 1
    agent.policy.evaluate_actions(packed, actions)
    assert len(calls) == 2
