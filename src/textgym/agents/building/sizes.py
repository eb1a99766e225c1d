"""Sizes of minibatches and groups that divide what there is."""

import math


def minibatch_size(total: int) -> int:
    """A divisor of a rollout's tokens, as near as can be to four minibatches of at most 512."""
    return divisor_near(total, max(4.0, total / 512))


def divisor_near(total: int, wanted: float) -> int:
    """The divisor of `total` whose count of parts is nearest to `wanted`, at least two elements."""
    small = [n for n in range(1, math.isqrt(total) + 1) if total % n == 0]
    counts = sorted(n for n in {*small, *(total // n for n in small)} if n <= max(total // 2, 1))
    return total // min(counts, key=lambda n: abs(math.log(n / wanted)))


def group_size(n_envs: int, at_most: int) -> int:
    """The largest number of generations up to `at_most` that divides the environments."""
    sizes = range(1, min(at_most, n_envs) + 1)
    return max((k for k in sizes if n_envs % k == 0), default=1)
