"""Advantages and losses of the algorithms without a critic: pure functions on tensors.

Legend: `G` groups of `k` episodes, `E` episodes, `A` acted tokens of a batch. NaN among totals is
an episode that is left out (`mask_truncated`): it counts in no mean, and its advantage is NaN.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from textgym.errors import InputError

SCALES = ("group", "batch", "none")
LOSS_TYPES = ("grpo", "dapo", "dr_grpo")


def group_advantages(
    totals: np.ndarray, *, scale_rewards: str = "none", epsilon: float = 1e-4
) -> np.ndarray:
    """Each episode's reward minus the mean of its group (Shao et al. 2024, "DeepSeekMath", 4.1.2).

    :param totals: float `[G, k]`, one row a group.
    :param scale_rewards: divide by the standard deviation of the group, of the batch, or by none.
        By the group's, prompts on which rewards hardly differ count as much as the others (Liu et
        al. 2025, "Understanding R1-Zero-Like Training"), and a KL term in the loss weighs
        differently from prompt to prompt.
    :return: float `[G, k]`.
    """
    centred: np.ndarray = totals - kept_mean(totals)
    if scale_rewards == "none":
        return centred
    if scale_rewards == "group":
        return centred / (kept_std(totals) + epsilon)
    if scale_rewards == "batch":
        return centred / (kept_std(totals.reshape(1, -1)) + epsilon)
    raise InputError(f"scale_rewards must be one of {', '.join(SCALES)}, got {scale_rewards!r}")


def kept_mean(totals: np.ndarray) -> np.ndarray:
    """Means `[G, 1]` of the episodes that are not left out; 0 where there are none."""
    is_kept = ~np.isnan(totals)
    count = np.maximum(is_kept.sum(axis=1, keepdims=True), 1)
    return np.where(is_kept, totals, 0.0).sum(axis=1, keepdims=True) / count  # type: ignore[no-any-return]


def kept_std(totals: np.ndarray, ddof: int = 1) -> np.ndarray:
    """Standard deviations `[G, 1]` of the same, with Bessel's correction; 0 for a single value."""
    is_kept = ~np.isnan(totals)
    count = np.maximum(is_kept.sum(axis=1, keepdims=True) - ddof, 1)
    squares = np.where(is_kept, (totals - kept_mean(totals)) ** 2, 0.0)
    return np.sqrt(squares.sum(axis=1, keepdims=True) / count)  # type: ignore[no-any-return]


def best_and_worst(totals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each group the first of the best, the first of the worst, and whether they are equal.

    :return: int64 `[G]` twice, and bool `[G]`, True as well where fewer than two are left.
    """
    is_out = np.isnan(totals)
    best = np.where(is_out, -np.inf, totals).argmax(axis=1)
    worst = np.where(is_out, np.inf, totals).argmin(axis=1)
    groups = np.arange(len(totals))
    return best, worst, ~(totals[groups, best] != totals[groups, worst]) | is_out.all(axis=1)


def leave_one_out_advantages(totals: np.ndarray) -> np.ndarray:
    """Each episode's reward minus the mean of the *others* of its group.

    Unbiased, since no baseline depends on its own episode (Kool et al. 2019; Ahmadian et al. 2024,
    "Back to Basics", section 3.3): `k / (k - 1)` times what `group_advantages` gives.

    :param totals: float `[G, k]`, `k` at least 2. An episode whose others are all left out has the
        advantage 0.
    """
    k = np.maximum((~np.isnan(totals)).sum(axis=1, keepdims=True), 2)
    return (totals - kept_mean(totals)) * k / (k - 1)  # type: ignore[no-any-return]


def clipped_surrogate(
    log_ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """PPO's pessimistic surrogate, negated (Schulman et al. 2017, eq. 7), any equal shapes.

    :param log_ratio: log-probability minus the one under the policy that drew the token.
    :param clip_low: the ratio counts from `1 - clip_low` ...
    :param clip_high: ... to `1 + clip_high` only (asymmetric: Yu et al. 2025, "DAPO", eq. 10).
    """
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def sequence_log_ratio(log_ratio: Tensor, episode_of: Tensor, lengths: Tensor) -> Tensor:
    """The mean log-ratio of each token's episode (Zheng et al. 2025, "GSPO", eq. 7), `[A]`."""
    sums = torch.zeros(len(lengths), dtype=log_ratio.dtype, device=log_ratio.device)
    sums = sums.index_add(0, episode_of, log_ratio)
    return (sums / lengths)[episode_of]


def aggregate(
    per_token: Tensor, episode_of: Tensor, lengths: Tensor, loss_type: str, max_tokens: int
) -> Tensor:
    """One number from `[A]` losses of tokens.

    :param lengths: `[E]`, acted tokens of each episode.
    :param loss_type: `"grpo"`: mean over each episode, then over episodes, which weighs a token of
        a short text more; `"dapo"`: mean over all tokens; `"dr_grpo"`: sum over each episode
        divided by the constant `max_tokens`, then mean: the policy gradient as it is.
    """
    if loss_type == "grpo":
        return (per_token / lengths[episode_of]).sum() / len(lengths)
    if loss_type == "dapo":
        return per_token.mean()
    if loss_type == "dr_grpo":
        return per_token.sum() / (len(lengths) * max_tokens)
    raise InputError(f"loss_type must be one of {', '.join(LOSS_TYPES)}, got {loss_type!r}")


def kl_in_loss(log_prob: Tensor, reference_log_prob: Tensor, estimator: str) -> Tensor:
    """A KL term `[A]` whose gradient, token by token, pulls to the reference.

    `"k2"` has the gradient of KL(π, π_ref) at each state; `"k3"` (GRPO's own) that of the reverse
    divergence KL(π_ref, π) and vanishes at the same place; `"k1"` has none on average, so it is
    refused. None of them sees that a token changes later states: a KL in the reward does.
    """
    log_ratio = reference_log_prob - log_prob
    if estimator == "k2":
        return log_ratio.square() / 2
    if estimator == "k3":
        return log_ratio.expm1() - log_ratio
    raise InputError(
        f"a KL term in the loss needs kl_estimator 'k2' or 'k3', got {estimator!r}: the gradient "
        "of k1 is zero on average"
    )


def preference_loss(
    chosen: Tensor,
    rejected: Tensor,
    beta: float,
    *,
    loss_type: str = "sigmoid",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Loss `[P]` of preference pairs (Rafailov et al. 2023, "DPO", eq. 7).

    :param chosen: `[P]`, log π(y) - log π_ref(y) of the better text; `rejected`: of the other.
    :param beta: strength of the KL constraint that the reward is implied under.
    :param loss_type: `"sigmoid"`, or `"ipo"` (Azar et al. 2023, eq. 17).
    :param label_smoothing: share of pairs taken to be labelled the wrong way round.
    """
    margin = chosen - rejected
    if loss_type == "sigmoid":
        right, wrong = logsigmoid(beta * margin), logsigmoid(-beta * margin)
        return -(1 - label_smoothing) * right - label_smoothing * wrong
    if loss_type == "ipo":
        return (margin - 1 / (2 * beta)).square()
    raise InputError(f"loss_type must be sigmoid or ipo, got {loss_type!r}")
