"""The benchmark for GPUs, as far as a processor can tell: its steps, and every way to train."""

import pytest
import torch

EACH_WAY = 14


def test_the_static_steps_of_the_floor_write_what_the_plain_floor_writes(load_benchmark):
    world = load_benchmark("token_world")
    shape = world.Shape(2, 32, 4, 64, vocabulary=50, key_heads=2, is_tied=True)
    prompts = torch.randint(3, 50, (6, 5), generator=torch.Generator().manual_seed(1))
    floors = [
        load_benchmark("grpo_iteration").GRPOFloor(
            shape, prompts, 1, has_reference=False, completion=7
        ),
        load_benchmark("gpu_iteration").GraphFloor(shape, prompts, 1, 7, half=False),
    ]
    for _ in range(2):  # the second rollout finds another's keys in the cache
        for floor in floors:
            floor.rollout()
        plain, static = floors
        assert torch.equal(plain.tokens, static.tokens)
        torch.testing.assert_close(static.log_probs, plain.log_probs, rtol=1e-4, atol=1e-5)
        assert len(plain.tokens.unique()) > 10


def test_every_way_to_train_moves_weights_and_tells_the_processors_log_probabilities(
    load_benchmark,
):
    lines = load_benchmark("gpu_paths").paths_table([], "cpu").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| way")]
    assert len(rows) == EACH_WAY
    assert [row for row in rows if not row.endswith("| yes | pass |")] == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_without_a_card_one_line_says_so(load_benchmark, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu_iteration.py"])
    assert load_benchmark("gpu_iteration").main() == 1
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "no CUDA device" in said[0]
