"""Posterior means of a fixed spread, by hand and for encoders of small numbers."""

import math

import pytest
import torch

from textgym.policies.vae.fixed_scale import FixedScale


def test_means_of_fixed_scale_by_hand():
    layer = FixedScale(2, 0.5)
    layer.train()
    values = torch.tensor([[1.0, 10.0], [3.0, 10.0]])  # means 2 and 10, variances 1 and 0
    assert layer(values).flatten().tolist() == pytest.approx([-0.5, 0.0, 0.5, 0.0], abs=1e-4)
    assert layer.running_mean.tolist() == [2.0, 10.0]  # the first batch's
    assert layer.running_variance.tolist() == [1.0, 0.0]
    layer(torch.tensor([[0.0, 10.0], [6.0, 30.0]]))  # means 3 and 20, variances 9 and 100
    assert layer.running_mean.tolist() == pytest.approx([2.1, 11.0])  # a tenth of the way
    assert layer.running_variance.tolist() == pytest.approx([1.8, 10.0])
    layer.eval()
    rows = torch.tensor([[3.1, 11.0], [2.1, 13.0]])
    assert layer(rows).flatten().tolist() == pytest.approx(
        [0.5 / math.sqrt(1.8), 0.0, 0.0, 1.0 / math.sqrt(10)], abs=1e-4
    )
    assert torch.equal(layer(rows[:1]), layer(rows)[:1])
    assert layer.running_mean.tolist() == pytest.approx([2.1, 11.0])


@pytest.mark.parametrize("size", [1e-4, 1e-5])
def test_an_encoder_of_small_numbers_is_spread_as_well(size):
    layer = FixedScale(3, 0.6).train()
    values = size * torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    assert layer(values).std(0, correction=0).tolist() == pytest.approx([0.6] * 3, abs=0.01)
    layer.eval()  # after one batch already, not when the statistics have forgotten where they began
    assert layer(values).std(0, correction=0).tolist() == pytest.approx([0.6] * 3, abs=0.01)
