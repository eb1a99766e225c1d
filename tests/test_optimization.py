"""Schedules and optimizers against numbers worked out by hand."""

import json
import math

import pytest
import torch
from textgym_testing import tiny_lm
from torch import nn

from textgym.errors import InputError
from textgym.float32_muon import Float32Muon, orthogonalized
from textgym.optimization import (
    ScaledAdam,
    build_optimizer,
    cosine_with_warmup,
    join_state,
    split_state,
)


@pytest.mark.parametrize(
    "progress, factor",
    [(0, 0), (0.05, 0.5), (0.1, 1), (0.55, 0.6), (1, 0.2), (2, 0.2), (-1, 0)],
)
def test_the_schedule_by_hand(progress, factor):
    assert cosine_with_warmup(progress, warmup=0.1, floor=0.2) == pytest.approx(factor)


def test_the_schedule_without_warmup_starts_at_the_top():
    assert cosine_with_warmup(0.0, warmup=0.0) == 1.0
    assert cosine_with_warmup(0.25, warmup=0.0, floor=0.0) == pytest.approx(
        0.5 * (1 + math.cos(math.pi / 4))
    )


def test_muon_gets_the_block_matrices_and_adamw_the_rest():
    lm = tiny_lm()
    names = {id(parameter): name for name, parameter in lm.named_parameters()}
    adamw, muon = build_optimizer(lm.named_parameters()).optimizers
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    in_muon = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    in_adamw = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    kinds = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    assert in_muon == {n for n in names.values() if n.split(".")[-2] in kinds}
    assert len(in_muon) == 2 * 7 and not in_muon & in_adamw
    assert in_muon | in_adamw == set(names.values())
    (only,) = build_optimizer(lm.named_parameters(), optimizer="adamw").optimizers
    assert isinstance(only, torch.optim.AdamW)


def test_frozen_parameters_are_left_out_and_wrong_options_refused():
    lm = tiny_lm().requires_grad_(False)
    assert build_optimizer(lm.named_parameters()).optimizers == []
    with pytest.raises(InputError, match="'muon', 'adamw' or 'adamw_8bit', got 'sgd'"):
        build_optimizer([], optimizer="sgd")
    with pytest.raises(InputError, match=r"learning_rate must be a finite number above 0, got -1"):
        build_optimizer([], learning_rate=-1)


def test_one_factor_moves_every_rate_from_its_own_start():
    optimizers = build_optimizer(
        tiny_lm().named_parameters(), learning_rate=0.1, muon_learning_rate=0.4
    )
    for factor in (0.5, 0.25):
        optimizers.set_learning_rate_factor(factor)
        rates = [o.param_groups[0]["lr"] for o in optimizers.optimizers]
        assert rates == [0.1 * factor, 0.4 * factor]


def test_the_state_of_all_optimizers_goes_on_where_it_was():
    def step(lm, optimizers):
        optimizers.zero_grad()
        lm(torch.tensor([[3, 4, 5]])).logsumexp(-1).sum().backward()
        optimizers.step()

    first, second = tiny_lm(), tiny_lm()
    ours = build_optimizer(first.named_parameters())
    for _ in range(2):
        step(first, ours)
    second.load_state_dict(first.state_dict())
    tensors, nest = split_state(ours.state_dict())
    tensors = {path: tensor.clone() for path, tensor in tensors.items()}
    state = join_state(tensors, json.loads(json.dumps(nest)))
    theirs = build_optimizer(second.named_parameters())
    theirs.load_state_dict(state)
    step(first, ours)
    step(second, theirs)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_nest_of_tensors_and_values_comes_back():
    state = {
        "a": torch.arange(3),
        0: [torch.tensor(2.5), "x", None, True, 1.5],
        "b": {"c": (1, torch.zeros(2, 2, dtype=torch.bfloat16)), "d": {}, 7: []},
    }
    tensors, nest = split_state(state)
    back = join_state(tensors, json.loads(json.dumps(nest)))
    assert back.keys() == state.keys() and back["b"].keys() == state["b"].keys()
    assert torch.equal(back["a"], state["a"]) and back[0][1:] == ["x", None, True, 1.5]
    assert back["b"]["c"][0] == 1 and isinstance(back["b"]["c"], tuple)
    assert back["b"]["c"][1].dtype == torch.bfloat16 and back["b"][7] == []


def test_keys_that_read_the_same_do_not_hide_each_other():
    state = {"a.b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 3: torch.tensor(4)}
    state["3"] = torch.tensor(5)
    tensors, nest = split_state(state)
    assert len(tensors) == 4
    back = join_state(tensors, nest)
    assert [int(back["a.b"]), int(back["a"]["b"]), int(back[3]), int(back["3"])] == [1, 2, 4, 5]


def test_scaled_adam_without_options_is_adam():
    torch_parameter, ours = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    plain = torch.optim.Adam([torch_parameter], lr=0.1, fused=True)
    scaled = ScaledAdam([ours], lr=0.1)
    for gradient in (torch.tensor([1.0, -2.0, 3.0]), torch.tensor([0.5, 0.5, -4.0])):
        for optimizer, parameter in ((plain, torch_parameter), (scaled, ours)):
            parameter.grad = gradient.clone()
            optimizer.step()
    assert torch.equal(torch_parameter, ours)


def test_scaled_adam_scales_and_waits():
    trunk, head = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    groups = [{"params": [trunk], "start_step": 2}, {"params": [head], "lr_scale": 10.0}]
    optimizer = ScaledAdam(groups, lr=1.0, eps=0.0)
    moved = []
    for _ in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.01  # as Stable-Baselines3 does before every update
        trunk.grad, head.grad = torch.tensor([3.0]), torch.tensor([-5.0])
        optimizer.step()
        assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]
        moved.append((float(trunk.detach()), float(head.detach())))
    # With a constant gradient Adam's step is the learning rate, against its sign.
    expected = [(0.0, 0.1), (0.0, 0.2), (-0.01, 0.3)]
    assert moved == [pytest.approx(pair, abs=1e-6) for pair in expected]
    state = optimizer.state_dict()
    again = ScaledAdam([{"params": [trunk]}, {"params": [head]}], lr=0.01, eps=0.0)
    again.load_state_dict(state)
    assert [group["steps_done"] for group in again.param_groups] == [3, 3]
    assert [group["start_step"] for group in again.param_groups] == [2, 0]
    assert [group["lr_scale"] for group in again.param_groups] == [1.0, 10.0]


def test_scaled_adam_restores_the_rates_when_a_step_fails():
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = ScaledAdam([{"params": [parameter], "lr_scale": 3.0}], lr=0.5)

    def closure():
        raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        optimizer.step(closure)
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("counts_updates, expected", [(True, [0, 0, 0, -1]), (False, [0, -1, -2])])
def test_updates_that_are_counted_say_how_long_to_wait_and_not_steps(counts_updates, expected):
    parameter = nn.Parameter(torch.zeros(1))
    group = {"params": [parameter], "start_step": 1, "start_update": 2}
    optimizer = ScaledAdam([group], lr=1.0, eps=0.0)
    moved = []
    for step in range(len(expected)):
        if counts_updates and step in (0, 2, 3):  # the first update has two steps
            optimizer.begin_update()
        parameter.grad = torch.tensor([3.0])
        optimizer.step()
        moved.append(float(parameter.detach()))
    assert moved == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(24, 16), (16, 24), (16, 16)])
def test_muon_in_float32_is_torchs_but_for_the_rounding_of_bfloat16(shape):
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(shape, generator=generator)
    ours, theirs = torch.nn.Parameter(first.clone()), torch.nn.Parameter(first.clone())
    keywords = {"lr": 0.1, "weight_decay": 0.1}
    mine = Float32Muon([ours], **keywords)
    torchs = torch.optim.Muon([theirs], **keywords)
    for _ in range(3):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        mine.step()
        torchs.step()
    moved = float((theirs - first).detach().norm())
    assert float((ours - theirs).detach().norm()) < 0.02 * moved
    assert mine.state_dict()["param_groups"] == torchs.state_dict()["param_groups"]
    fields = mine.state_dict()["state"][0]
    assert fields.keys() == torchs.state_dict()["state"][0].keys()
    torch.testing.assert_close(
        fields["momentum_buffer"], torchs.state_dict()["state"][0]["momentum_buffer"]
    )


def test_a_matrix_is_orthogonalized_to_its_singular_vectors():
    u, _, v = torch.linalg.svd(torch.randn(6, 9, generator=torch.Generator().manual_seed(1)))
    matrix = u @ torch.diag(torch.tensor([5.0, 4, 3, 2, 1.5, 1])) @ v[:6]
    found = orthogonalized(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7)
    along = u.T @ found @ v[:6].T  # its singular values, on the same vectors
    assert float((along - torch.diag(along.diag())).abs().max()) < 1e-4
    assert 0.6 < float(along.diag().min()) and float(along.diag().max()) < 1.3
