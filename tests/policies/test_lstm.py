"""Long short-term memory: torch's own numbers, ragged sequences, and one dropout mask each."""

import pytest
import torch
from torch import nn

from textgym.policies.language_model.lstm import VariationalLSTM

LENGTHS = {"in disorder": [2, 5, 1, 4], "equal": [3, 3], "one": [4], "some empty": [0, 3, 0, 1]}
every_shape = pytest.mark.parametrize("name", LENGTHS)


def made(layers=2, seed=0):
    lstm = VariationalLSTM(3, 5, layers)
    lstm.reset_parameters(torch.Generator().manual_seed(seed))
    return lstm.eval()


def inputs_of(lengths, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(sum(lengths), 3, generator=generator, requires_grad=True)


def naive(lstm, sequence, state=None, keeps=None):
    """One sequence, one token after the other, from the equations.

    :param keeps: for each layer what inputs and read-back states are multiplied with, and for the
        last one what it gives out.
    """
    out, size = [], lstm.hidden_size
    state = lstm.initial_state(1)[0] if state is None else state
    hidden, cell = list(state[:, 0]), list(state[:, 1])
    for x in sequence:
        for i, layer in enumerate(lstm.layers):
            read = hidden[i]
            if keeps is not None:
                x, read = x * keeps[i][0], read * keeps[i][1]
            gates = layer.weight_ih @ x + layer.weight_hh @ read + layer.bias
            into, forget, new, given = gates.split(size)
            cell[i] = torch.sigmoid(forget) * cell[i] + torch.sigmoid(into) * torch.tanh(new)
            x = hidden[i] = torch.sigmoid(given) * torch.tanh(cell[i])
        out.append(x if keeps is None else x * keeps[-1])
    ends = torch.stack([torch.stack(hidden), torch.stack(cell)], 1)
    return torch.stack(out) if out else torch.zeros(0, size), ends


def assert_equal_with_gradients(lstm, inputs, found, expected):
    """The same numbers, and the same gradients of a random weighting of them."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    weighting = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    leaves = [inputs, *lstm.parameters()]
    ours = torch.autograd.grad((found * weighting).sum(), leaves)
    theirs = torch.autograd.grad((expected * weighting).sum(), leaves)
    for our, their in zip(ours, theirs, strict=True):
        assert bool(their.any())
        torch.testing.assert_close(our, their, rtol=0, atol=2e-6)


@every_shape
@pytest.mark.parametrize("begun", [False, True])
def test_each_sequence_is_read_as_if_it_were_alone(name, begun):
    lstm, lengths = made(), LENGTHS[name]
    inputs = inputs_of(lengths)
    before = torch.randn(len(lengths), 2, 2, 5) if begun else None
    found, after = lstm.packed(inputs, torch.tensor(lengths), before)
    states = [None] * len(lengths) if before is None else before
    parts = [naive(lstm, *part) for part in zip(inputs.split(lengths), states, strict=True)]
    torch.testing.assert_close(after, torch.stack([end for _, end in parts]), rtol=0, atol=1e-6)
    assert_equal_with_gradients(lstm, inputs, found, torch.cat([out for out, _ in parts]))


def test_it_is_the_lstm_of_torch():
    lstm, theirs = made(), nn.LSTM(3, 5, 2, batch_first=True)
    with torch.no_grad():
        for i, layer in enumerate(lstm.layers):
            getattr(theirs, f"weight_ih_l{i}").copy_(layer.weight_ih)
            getattr(theirs, f"weight_hh_l{i}").copy_(layer.weight_hh)
            getattr(theirs, f"bias_ih_l{i}").copy_(layer.bias)
            getattr(theirs, f"bias_hh_l{i}").zero_()
        rows = torch.randn(4, 6, 3)
        expected, (hidden, cell) = theirs(rows)
        found, state = lstm(rows)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(state, torch.stack([hidden, cell], 2).transpose(0, 1))


@torch.no_grad()
@every_shape
def test_steps_and_all_states_are_the_same_walk(name):
    lstm, lengths = made(3), LENGTHS[name]
    inputs = inputs_of(lengths)
    out, after = lstm.packed(inputs, torch.tensor(lengths))
    states = lstm.states(inputs, torch.tensor(lengths))
    assert states.shape == (sum(lengths), 3, 2, 5)
    torch.testing.assert_close(states[:, -1, 0], out, rtol=0, atol=1e-6)
    ends = iter(states.split(lengths))
    for row, part in enumerate(inputs.split(lengths)):
        state, walked = lstm.initial_state(1), next(ends)
        for token, expected in zip(part, walked, strict=True):
            state = lstm.step(token[None], state)
            torch.testing.assert_close(state[0], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(state[0], after[row], rtol=0, atol=1e-6)


@torch.no_grad()
def test_rows_are_padded_with_zeros_and_may_go_on():
    lstm = made()
    rows = torch.randn(2, 6, 3)
    whole, last = lstm(rows, lengths=torch.tensor([6, 2]))
    assert bool((whole[1, 2:] == 0).all()) and bool((whole[1, :2] != 0).all())
    first, state = lstm(rows[:, :4], lengths=torch.tensor([4, 2]))
    second, state = lstm(rows[:, 4:], state, torch.tensor([2, 0]))
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=1e-6)
    torch.testing.assert_close(state, last, rtol=0, atol=1e-6)


@every_shape
def test_dropout_is_one_mask_for_each_sequence_and_place(name, monkeypatch):
    """Gal and Ghahramani 2016, equation 7: the masks that were drawn, put into the equations."""
    from textgym.policies.language_model import lstm as module

    lstm, lengths = made(), LENGTHS[name]
    drawn, real = [], module._mask
    monkeypatch.setattr(module, "_mask", lambda *given: drawn.append(real(*given)) or drawn[-1])
    lstm.drop = 0.4
    lstm.train()
    inputs = inputs_of(lengths)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        found, after = lstm.packed(inputs, torch.tensor(lengths))
    assert [tuple(mask.shape[1:]) for mask in drawn] == [(3,), (5,), (5,), (5,), (5,)]
    values = torch.cat([mask.flatten() for mask in drawn])
    assert (
        bool(((values == 0) | (values == 1 / (1 - 0.4))).all()) and 0 < float(values.mean()) < 1.6
    )
    longest_first = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    parts = []
    for i, part in enumerate(inputs.split(lengths)):
        mine = [mask[longest_first.index(i)] for mask in drawn]
        parts.append(naive(lstm, part, keeps=[mine[0:2], mine[2:4], mine[4]]))
    torch.testing.assert_close(after, torch.stack([end for _, end in parts]), rtol=0, atol=1e-6)
    assert_equal_with_gradients(lstm, inputs, found, torch.cat([out for out, _ in parts]))


@torch.no_grad()
def test_dropout_rests_outside_training_and_in_decoding():
    lstm, inputs, lengths = made(), inputs_of([4, 2]), torch.tensor([4, 2])
    plain = lstm.packed(inputs, lengths)[0]
    lstm.drop = 0.5
    assert torch.equal(lstm.packed(inputs, lengths)[0], plain)
    states, state = lstm.states(inputs, lengths), lstm.initial_state(2)
    lstm.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = lstm.packed(inputs, lengths)[0], lstm.packed(inputs, lengths)[0]
    assert not torch.equal(first, plain) and not torch.equal(first, second)
    assert torch.equal(lstm.states(inputs, lengths), states)
    assert torch.equal(lstm.step(inputs[[0, 4]], state), lstm.eval().step(inputs[[0, 4]], state))


def test_it_can_be_differentiated_twice():
    """As TRPO does, for the products of its Fisher matrix with a vector."""
    lstm = made(1).double()
    inputs = inputs_of([3, 2]).detach().double().requires_grad_(True)
    lengths = torch.tensor([3, 2])
    assert torch.autograd.gradgradcheck(lambda x: lstm.packed(x, lengths)[0].sum(), (inputs,))


def test_no_sequence_at_all_is_a_batch_too():
    lstm = made()
    out, state = lstm.packed(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert out.shape == (0, 5) and state.shape == (0, 2, 2, 5)


def test_fresh_weights_follow_the_generator_and_the_forget_gate_is_open():
    first, same, other = made(seed=3), made(seed=3), made(seed=4)
    for name, weight in first.named_parameters():
        assert torch.equal(weight, dict(same.named_parameters())[name])
    assert not torch.equal(first.layers[0].weight_ih, other.layers[0].weight_ih)
    assert float(first.layers[1].weight_hh.detach().abs().max()) <= 5**-0.5
    assert first.layers[0].bias.tolist() == [0.0] * 5 + [1.0] * 5 + [0.0] * 10


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_it_runs_in_bfloat16_and_under_autocast(drop):
    lstm, inputs, lengths = made(), inputs_of([4, 2]).detach(), torch.tensor([4, 2])
    plain = lstm.packed(inputs, lengths)[0].detach()
    lstm.drop = drop
    lstm.train()
    with torch.autocast("cpu", torch.bfloat16):
        out = lstm.packed(inputs, lengths)[0]
        out.float().sum().backward()
    assert lstm.layers[0].weight_hh.grad.dtype == torch.float32
    half = lstm.to(torch.bfloat16).packed(inputs.bfloat16(), lengths)[0]
    assert half.dtype == torch.bfloat16
    if not drop:
        torch.testing.assert_close(out.float(), plain, rtol=0, atol=0.02)
        torch.testing.assert_close(half.float(), plain, rtol=0, atol=0.02)
