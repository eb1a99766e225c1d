"""Log-probabilities in chunks: equal to those at once, and no tensor of all logits."""

import pytest
import torch
from front_door import byte_lm, small_agent
from torch.utils._python_dispatch import TorchDispatchMode

from textgym.policies.language_model import chunks
from textgym.policies.language_model.log_probs import token_log_probs
from textgym.policies.language_model.packing import pack_rows
from textgym.policies.language_model.sampling import Sampling
from textgym.policies.pretraining.documents import Document, collate
from textgym.policies.pretraining.objective import batch_loss

WIDTH, ROWS, FEW = 259, 24, 5  # of the byte tokenizer; a chunk holds five rows at most


class Largest(TorchDispatchMode):
    """The largest tensor that is as wide as the vocabulary."""

    rows = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            is_wide = isinstance(tensor, torch.Tensor) and tensor.ndim == 2
            if is_wide and tensor.shape[1] == WIDTH and len(tensor) != 16:  # the head's weight
                self.rows = max(self.rows, tensor.shape[0])
        return out


def rows_and_actions():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(3, WIDTH, (ROWS, 9), generator=generator)
    actions = torch.randint(3, WIDTH, (ROWS,), generator=generator)
    return pack_rows(rows, torch.full((ROWS,), 9)), actions


def outputs_and_gradients(agent, width):
    packed, actions = rows_and_actions()
    policy = agent.policy
    policy.zero_grad(set_to_none=True)
    with Largest() as largest:
        values, log_prob, entropy = policy.evaluate_actions(packed, actions)
        weights = torch.linspace(-1, 1, ROWS)
        (log_prob * weights + 0.1 * entropy + values[:, 0]).sum().backward()
    gradients = [w.grad for w in policy.parameters() if w.grad is not None]
    return [values, log_prob, entropy, *gradients], largest.rows


@pytest.mark.parametrize("keywords", [{}, {"temperature": 0.7, "top_k": 40}, {"lora_rank": 2}])
def test_evaluate_actions_is_the_same_in_chunks(keywords, monkeypatch):
    agent = small_agent(**keywords)
    expected, at_once = outputs_and_gradients(agent, WIDTH)
    assert at_once == ROWS
    monkeypatch.setattr(chunks, "LARGEST", FEW * WIDTH)
    found, at_a_time = outputs_and_gradients(agent, WIDTH)
    assert at_a_time <= FEW
    assert len(found) == len(expected) > 4
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_with_masks_too(monkeypatch):
    keywords = {"env": "textgym/Keyword-v0", "env_kwargs": {"constraint": "[a-d ]*"}}
    try:
        agent = small_agent("maskable_ppo", n_steps=32, **keywords)
    except TypeError:
        pytest.fail("a constraint is a field of the task")
    agent.learn(128)
    (samples,) = agent.rollout_buffer.get(128)
    packed, actions = samples.observations, samples.actions.long().flatten()
    expected = agent.policy.evaluate_actions(packed, actions)
    monkeypatch.setattr(chunks, "LARGEST", FEW * WIDTH)
    found = agent.policy.evaluate_actions(packed, actions)
    assert torch.isfinite(found[1]).all()
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


def test_token_log_probs_are_the_same_in_chunks(monkeypatch):
    lm = byte_lm()
    packed, actions = rows_and_actions()
    sampling = Sampling(temperature=0.8, top_p=0.9)
    expected = token_log_probs(lm, packed, actions, sampling)
    monkeypatch.setattr(chunks, "LARGEST", FEW * WIDTH)
    with Largest() as largest:
        found = token_log_probs(lm, packed, actions, sampling)
    assert largest.rows <= FEW
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_the_pretraining_loss_is_the_same_in_chunks(monkeypatch):
    lm = byte_lm()
    documents = [Document(list(range(i, i + 20)), 1) for i in range(4, 9)]
    found = []
    for largest in (chunks.LARGEST, FEW * WIDTH):
        monkeypatch.setattr(chunks, "LARGEST", largest)
        lm.zero_grad(set_to_none=True)
        with Largest() as seen:
            batch = collate(documents)
            loss = batch_loss(lm, batch) / len(batch.source)  # as the loop takes it
            loss.backward()
        found.append((loss, [w.grad for w in lm.parameters()], seen.rows))
    (expected, theirs, at_once), (ours, mine, at_a_time) = found
    assert at_once > FEW >= at_a_time
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_what_fits_is_computed_once(monkeypatch):
    """Small models pay nothing: no second product with the head."""
    lm, calls = byte_lm(), []
    lm.lm_head.register_forward_hook(lambda *_: calls.append(1))
    batch_loss(lm, collate([Document(list(range(4, 20)), 1)])).backward()
    assert len(calls) == 1
    monkeypatch.setattr(chunks, "LARGEST", FEW * WIDTH)
    batch_loss(lm, collate([Document(list(range(4, 20)), 1)])).backward()
    assert len(calls) == 1 + 2 + 2 + 1  # the last chunk is kept
