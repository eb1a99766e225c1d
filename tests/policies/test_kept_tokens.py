"""The last layer may be asked for some tokens only; what it says of them does not change."""

import pytest
import torch
from textgym_testing import PAD, tiny_lm

from textgym.policies.language_model.cached_decoder import CachedDecoder

TOKENS = torch.tensor([1, 2, 3, 4, 5, 6, 1, 3, 5, 2])
LENGTHS = {"equal": torch.tensor([5, 5]), "ragged": torch.tensor([3, 6, 1])}
KEPT = torch.tensor([2, 4, 3, 9, 2])  # any order, one of them twice


def gradients(lm, kept_in_decoder, lengths, weights):
    lm.zero_grad()
    if kept_in_decoder:
        hidden = lm.model.packed(TOKENS, lengths, KEPT)
    else:
        hidden = lm.model.packed(TOKENS, lengths)[KEPT]
    (hidden * weights).sum().backward()
    grads = {name: p.grad for name, p in lm.model.named_parameters() if p.grad is not None}
    return hidden.detach(), grads


@pytest.mark.parametrize("architecture", ["transformer", "lstm"])
@pytest.mark.parametrize("kind", LENGTHS)
def test_kept_tokens_and_their_gradients_are_those_of_the_whole_pass(kind, architecture):
    lm = tiny_lm(seed=3, num_hidden_layers=2, architecture=architecture)
    weights = torch.randn(
        len(KEPT), lm.config.hidden_size, generator=torch.Generator().manual_seed(0)
    )
    hidden, grads = gradients(lm, True, LENGTHS[kind], weights)
    expected, expected_grads = gradients(lm, False, LENGTHS[kind], weights)
    torch.testing.assert_close(hidden, expected, rtol=0, atol=1e-6)
    assert grads.keys() == expected_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=1e-5, atol=1e-6, msg=name)


@torch.no_grad()
def test_a_chosen_padding_token_is_not_taken_for_a_step():
    """A row that ends in a "chosen" pad is the old row: its last token has not moved."""
    lm = tiny_lm(seed=1)
    decoder = CachedDecoder(lm.model, PAD)
    rows = torch.tensor([[1, 2, PAD, PAD], [3, PAD, PAD, PAD]])
    first = decoder(rows)
    decoder.expect(torch.tensor([PAD, PAD]))
    torch.testing.assert_close(decoder(rows), first, rtol=0, atol=1e-6)


@torch.no_grad()
def test_the_expected_step_runs_one_token_a_row():
    lm = tiny_lm(seed=1)
    decoder, plain = CachedDecoder(lm.model, PAD), CachedDecoder(lm.model, PAD, use_cache=False)
    counts = []
    lm.model.register_forward_hook(lambda _, arguments, output: counts.append(len(arguments[0])))
    rows = torch.tensor([[1, 2, PAD, PAD], [3, PAD, PAD, PAD]])
    decoder(rows)
    decoder.expect(torch.tensor([4, 5]))
    rows = torch.tensor([[1, 2, 4, PAD], [3, 5, PAD, PAD]])
    hidden = decoder(rows)
    assert counts == [3, 2]
    torch.testing.assert_close(hidden, plain(rows), rtol=0, atol=1e-5)
