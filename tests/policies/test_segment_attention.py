"""Segments attend to themselves only, in whatever groups they are padded."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from textgym.policies.language_model.attention import SegmentAttention

CASES = {
    "equal": ([4, 4, 4], 1),
    "longest first": ([8, 7, 6, 4, 4, 2, 1], 4),  # 8 7 6 | 4 4 | 2 | 1
    "three quarters is near enough": ([8, 6, 5], 2),
    "in disorder": ([2, 8, 1, 6], 1),
    "one": ([5], 1),
}


@pytest.mark.parametrize("name", CASES)
def test_each_segment_is_attended_as_if_it_were_alone(name):
    lengths, groups = CASES[name]
    generator = torch.Generator().manual_seed(0)
    shape = (sum(lengths), 2, 4)
    parts = [torch.randn(shape, generator=generator, requires_grad=True) for _ in range(3)]
    attention = SegmentAttention(torch.tensor(lengths))
    assert len(attention.groups) == groups
    out = attention(0, *parts)
    alone = [
        scaled_dot_product_attention(*(part.transpose(0, 1) for part in one), is_causal=True)
        for one in zip(*(part.split(lengths) for part in parts), strict=True)
    ]
    expected = torch.cat([one.transpose(0, 1) for one in alone])
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    weights = torch.randn(shape, generator=generator)
    grads = torch.autograd.grad((out * weights).sum(), parts)
    expected_grads = torch.autograd.grad((expected * weights).sum(), parts)
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=0, atol=1e-6)


def test_grouped_query_heads_are_shared():
    """Two query heads read one key-value head: the same as if it stood there twice."""
    generator = torch.Generator().manual_seed(1)
    query = torch.randn(5, 2, 4, generator=generator)
    key, value = (torch.randn(5, 1, 4, generator=generator) for _ in range(2))
    attention = SegmentAttention(torch.tensor([3, 2]))
    doubled = attention(0, query, key.expand(5, 2, 4), value.expand(5, 2, 4))
    torch.testing.assert_close(attention(0, query, key, value), doubled, rtol=0, atol=1e-6)
