"""The interval of a pair accuracy whose pairs share texts, raters or prompts.

Fitting, the agreement with people and the audit all state their accuracy with this one.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.reward_models.share_intervals import wilson_interval

Clusters = npt.NDArray[np.int64]


def clustered_interval(
    hits: npt.NDArray[np.float64],
    clusters: Clusters,
    others: Clusters | None = None,
    *,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """An interval for a mean of shares that depend on one another where they share a cluster.

    Wilson's score interval (1927) with the number of independent shares that the variance between
    clusters speaks of, and Student's t with C − 1 degrees of freedom in place of the normal
    quantile, over C clusters. The variance is Σ eᵢ eⱼ / n² · C / (C − 1) over all i, j that have a
    cluster in common, e a share's distance from the mean (dyadic cluster-robust; Fafchamps & Gubert
    2007, "The formation of risk sharing networks", equation 8). Where every pair lies inside one
    cluster it is the usual Σ (sum_c − mean · n_c)² / n² · C / (C − 1).

    :param hits: float64 [p] in [0, 1].
    :param clusters: int64 [p], of each pair's first text; any numbers.
    :param others: int64 [p], of its second text; None: the same.
    :returns: two numbers in [0, 1]; NaN with fewer than two clusters.
    """
    n = len(hits)
    both = np.concatenate([clusters, clusters if others is None else others])
    numbers, place = np.unique(both, return_inverse=True)
    count = len(numbers)
    if count < 2:
        return float("nan"), float("nan")
    one, other = place[:n], place[n:]
    mean = float(hits.mean())
    error = hits - mean
    is_across = one != other
    sums = np.bincount(one, error, count)
    sums += np.bincount(other[is_across], error[is_across], count)
    total = float((sums**2).sum())
    if is_across.any():  # two pairs between the same two clusters were counted once for each
        low, high = np.minimum(one, other)[is_across], np.maximum(one, other)[is_across]
        _, between = np.unique(low * count + high, return_inverse=True)
        total -= float((np.bincount(between, error[is_across]) ** 2).sum())
    variance = total / n**2 * count / (count - 1)
    size = count if variance <= 0 else min(mean * (1 - mean) / variance, n)
    from scipy.special import stdtrit  # slow to import, and few need it

    return wilson_interval(mean, size, float(stdtrit(count - 1, (1 + confidence) / 2)))


def clusters_of(rows: Sequence[Any]) -> Clusters:
    """int64 [texts], one number for texts whose pairs are not independent of one another.

    Rated texts of a block, preferences of a prompt (each by itself where all have the same one).

    :param rows: rated texts, or preferences, of which each has two texts.
    """
    if rows and hasattr(rows[0], "chosen"):
        prompts = [row.prompt for row in rows]
        groups: list[Hashable] = list(prompts if len(set(prompts)) > 1 else range(len(rows)))
        keys = [group for group in groups for _ in range(2)]
    else:
        blocks = [getattr(row, "block", None) for row in rows]
        keys = [place if block is None else (block,) for place, block in enumerate(blocks)]
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
