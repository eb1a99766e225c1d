"""Adam with its moments in 8 bits: beside torch's own, in an agent, and through a checkpoint."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from front_door import ENV, byte_lm, run_cli, small_agent
from textgym_resuming import digests
from torch import nn

import textgym
from textgym.agents.building.checkpoint import save_agent
from textgym.errors import InputError
from textgym.optimization import (
    ScaledAdam,
    ScaledAdam8bit,
    build_optimizer,
    check_optimizer_state,
    join_state,
    split_state,
)


def steps_of(optimizers, parameters, count, seed=0):
    """So many steps of each optimizer on its own parameter, along the same gradients."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        gradient = torch.randn(parameters[0].shape, generator=generator)
        for optimizer, parameter in zip(optimizers, parameters, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()


def twins(*shape):
    first = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    return nn.Parameter(first.clone()), nn.Parameter(first.clone()), first


def test_five_steps_are_torchs_within_two_percent_of_what_they_moved():
    ours, torchs, first = twins(64, 128)
    mine = ScaledAdam8bit([ours], lr=0.01)
    steps_of([mine, torch.optim.Adam([torchs], lr=0.01)], [ours, torchs], 5)
    moved = float((torchs - first).detach().norm())
    apart = float((ours - torchs).detach().norm())
    assert 0 < apart < 0.02 * moved  # measured: .0096
    state = mine.state_dict()["state"][0]
    assert state["state1"].dtype == state["state2"].dtype == torch.uint8
    assert state["state1"].shape == (64, 128) and state["absmax1"].shape == (32,)
    held = sum(value.nbytes for value in state.values() if isinstance(value, torch.Tensor))
    assert held == 64 * 128 * 2 + 32 * 4 * 2  # torch's: 64 * 128 * 8


def test_a_small_weight_keeps_its_moments_in_float32():
    ours, torchs, _ = twins(63, 65)  # 4,095 numbers, one fewer than the library compresses
    mine = ScaledAdam8bit([ours], lr=0.01)
    steps_of([mine, torch.optim.Adam([torchs], lr=0.01)], [ours, torchs], 5)
    torch.testing.assert_close(ours, torchs, rtol=1e-5, atol=1e-6)
    state = mine.state_dict()["state"][0]
    assert state.keys() == {"step", "state1", "state2"} and state["state1"].dtype == torch.float32


@pytest.mark.parametrize("counts_updates", [True, False])
def test_scales_and_waiting_are_those_of_scaled_adam(counts_updates):
    trunk, head = nn.Parameter(torch.zeros(64, 64)), nn.Parameter(torch.zeros(64, 64))
    groups = [
        {"params": [trunk], "start_step": 1, "start_update": 2},
        {"params": [head], "lr_scale": 10.0},
    ]
    optimizer = ScaledAdam8bit(groups, lr=1.0, eps=0.0)
    moved = []
    for _ in range(3):
        for group in optimizer.param_groups:
            group["lr"] = 0.01
        if counts_updates:
            optimizer.begin_update()
        trunk.grad, head.grad = torch.full_like(trunk, 3.0), torch.full_like(head, -5.0)
        optimizer.step()
        assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]
        moved.append((float(trunk.detach()[0, 0]), float(head.detach()[0, 0])))
    waits = [0.0, 0.0, -0.01] if counts_updates else [0.0, -0.01, -0.02]
    for found, expected in zip(moved, zip(waits, (0.1, 0.2, 0.3), strict=True), strict=True):
        assert found == pytest.approx(expected, rel=0.01)


def test_the_library_is_imported_when_an_optimizer_is_made():
    code = (
        "import sys; from textgym.optimization import ScaledAdam8bit\n"
        "import textgym.agents.building.build\n"
        "print('bitsandbytes' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_without_the_library_there_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    expected = r"needs bitsandbytes, which is not installed: pip install 'textgym\[bitsandbytes\]'$"
    with pytest.raises(InputError, match=expected):
        small_agent(optimizer="adam_8bit")
    with pytest.raises(InputError, match=expected):
        build_optimizer(byte_lm().named_parameters(), optimizer="adamw_8bit")
    line = ("train", ENV, "--optimizer", "adam_8bit", "--timesteps", 8, "--out", tmp_path / "run")
    code, _, error = run_cli(*line)
    assert code == 2 and error.count("\n") == 1 and "textgym[bitsandbytes]" in error
    assert not (tmp_path / "run").exists()


def test_a_word_that_there_is_not_is_refused():
    with pytest.raises(InputError, match=r"optimizer must be one of adam, adam_8bit, got 'sgd'"):
        small_agent(optimizer="sgd")


@pytest.mark.parametrize("word", ["ppo", "grpo", "dqn"])
def test_the_default_is_the_optimizer_of_before(word):
    plain, named = small_agent(word, lm=byte_lm()), small_agent(word, optimizer="adam")
    eight = small_agent(word, optimizer="adam_8bit")
    kind = torch.optim.Adam if word == "grpo" else ScaledAdam
    assert type(plain.policy.optimizer) is type(named.policy.optimizer) is kind
    assert isinstance(eight.policy.optimizer, ScaledAdam8bit)
    assert named.text_settings == plain.text_settings
    assert eight.text_settings["keywords"]["optimizer"] == "adam_8bit"
    for ours, theirs in zip(
        eight.policy.optimizer.param_groups, plain.policy.optimizer.param_groups, strict=True
    ):
        shared = (ours.keys() & theirs.keys()) - {"params"}
        assert shared >= {"lr", "betas", "eps", "weight_decay"}
        assert {k: ours[k] for k in shared} == {k: theirs[k] for k in shared}


@pytest.mark.parametrize("word", ["ppo", "grpo"])
def test_a_stopped_run_goes_on_to_the_last_bit(word, tmp_path):
    settings = {"optimizer": "adam_8bit", "learning_rate": 1e-2, "value_warmup_rollouts": 0}
    if word == "grpo":
        del settings["value_warmup_rollouts"]
    whole = small_agent(word, **settings)
    start = digests(whole)
    whole.learn(384)
    half = small_agent(word, **settings, out=tmp_path / "run")
    half.learn(256)
    again = textgym.load_agent(tmp_path / "run", exact=True)
    assert digests(again) == digests(half)
    again.learn(384 - again.num_timesteps, reset_num_timesteps=False)
    assert digests(again) == digests(whole)
    assert sum(value != start.get(name) for name, value in digests(whole).items()) > 10
    states = again.policy.optimizer.state_dict()["state"].values()
    assert {state["state1"].dtype for state in states} == {torch.uint8, torch.float32}


def test_the_other_optimizer_begins_afresh_where_it_is_asked_for(tmp_path):
    for name, keywords in (("plain", {}), ("eight", {"optimizer": "adam_8bit"})):
        agent = small_agent(**keywords)
        agent.learn(128)
        save_agent(agent, tmp_path / name)
    to_eight = textgym.load_agent(tmp_path / "plain", optimizer="adam_8bit").policy.optimizer
    to_plain = textgym.load_agent(tmp_path / "eight", optimizer="adam").policy.optimizer
    assert isinstance(to_eight, ScaledAdam8bit) and type(to_plain) is ScaledAdam
    for fresh in (to_eight, to_plain):
        assert fresh.state_dict()["state"] == {}
    same = textgym.load_agent(tmp_path / "eight", optimizer="adam_8bit").policy.optimizer
    assert len(same.state_dict()["state"]) > 5


def made():
    """An optimizer with a matrix in 8 bits and a vector that is not, a step old; its state."""
    matrix, vector = nn.Parameter(torch.ones(64, 65)), nn.Parameter(torch.ones(7))
    optimizer = ScaledAdam8bit([matrix, vector], lr=0.1)
    matrix.grad, vector.grad = torch.ones(64, 65), torch.ones(7)
    optimizer.step()
    return optimizer, copy.deepcopy(optimizer.state_dict())


WRONG = [
    (0, "step", 0),
    (0, "step", 10**30),
    (0, "step", True),
    (0, "step", 1.0),
    (0, "step", torch.ones(())),
    (0, "state1", None),
    (0, "state1", torch.zeros(64, 65)),
    (0, "state1", torch.zeros(64, 65, dtype=torch.int8)),
    (0, "state1", torch.zeros(65, 64, dtype=torch.uint8)),
    (0, "state2", torch.zeros(64 * 65, dtype=torch.uint8)),
    (0, "absmax1", torch.zeros(16)),
    (0, "absmax1", torch.zeros(17, dtype=torch.float64)),
    (0, "absmax1", torch.full((17,), float("inf"))),
    (0, "absmax2", torch.full((17,), float("nan"))),
    (0, "absmax2", torch.full((17,), -1.0)),
    (0, "qmap1", torch.zeros(256)),
    (0, "more", 1.0),
    (0, None, None),
    (1, "state1", torch.zeros(7, dtype=torch.uint8)),
    (1, "state1", torch.tensor(0.0)),
    (1, "state1", torch.full((7,), float("-inf"))),
    (1, "state2", torch.full((7,), -1.0)),
    (1, "absmax1", torch.zeros(1)),
    (2, "step", 1),
]


@pytest.mark.parametrize("index, name, value", WRONG)
def test_a_state_that_is_not_quite_right_is_refused(index, name, value):
    optimizer, state = made()
    check_optimizer_state(optimizer, state)
    moments = state["state"]
    moments[index] = [1] if name is None else {**moments.get(index, {}), name: value}
    with pytest.raises(ValueError):
        check_optimizer_state(optimizer, state)


def test_what_a_state_of_8_bits_may_hold_others_may_not():
    plain = nn.Parameter(torch.ones(64, 65))
    optimizer = ScaledAdam([plain], lr=0.1)
    with pytest.raises(ValueError, match="no moment of an optimizer: state1"):
        check_optimizer_state(optimizer, {**optimizer.state_dict(), "state": made()[1]["state"]})


def test_adamw_in_8_bits_fits_models_and_goes_on():
    def step(parameter, optimizers, seed):
        steps_of([optimizers], [parameter], 3, seed)

    ours, torchs, first = twins(64, 128)
    keywords = {"learning_rate": 0.01, "weight_decay": 0.5}
    mine = build_optimizer([("w", ours)], optimizer="adamw_8bit", **keywords)
    theirs = build_optimizer([("w", torchs)], optimizer="adamw", **keywords)
    step(ours, mine, 0)
    step(torchs, theirs, 0)
    moved = float((torchs - first).detach().norm())
    assert float((ours - torchs).detach().norm()) < 0.02 * moved
    tensors, nest = split_state(mine.state_dict())
    tensors = {path: tensor.clone() for path, tensor in tensors.items()}
    state = join_state(tensors, json.loads(json.dumps(nest)))
    second = nn.Parameter(ours.detach().clone())
    again = build_optimizer([("w", second)], optimizer="adamw_8bit", **keywords)
    again.load_state_dict(state)
    step(ours, mine, 1)
    step(second, again, 1)
    assert torch.equal(ours, second)
