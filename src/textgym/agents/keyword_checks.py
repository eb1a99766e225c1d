"""Which values the keywords of an algorithm may have, whoever's algorithm it is."""

import math
from collections.abc import Mapping
from typing import Any

import torch

from textgym.errors import InputError

COUNTS = (
    "n_steps",
    "batch_size",
    "n_epochs",
    "num_generations",
    "n_groups",
    "buffer_size",
    "train_freq",
    "target_update_interval",
    "cg_max_steps",
    "line_search_max_iter",
    "n_critic_updates",
    "sub_sampling_factor",
    "n_quantiles",
    "stats_window_size",
)
POSITIVE = ("max_grad_norm", "clip_range", "clip_range_vf", "target_kl")
FROM_ZERO = (
    "learning_rate",
    "final_learning_rate",
    "vf_coef",
    "learning_starts",
    "value_warmup_rollouts",
    "value_lr_scale",
)


def check_keywords(keywords: Mapping[str, Any]) -> None:
    """The numbers among an algorithm's keywords; schedules and None are left to the algorithm.

    :raises InputError: naming the first that makes no sense.
    """
    for name, value in keywords.items():
        if value is None or callable(value):
            continue
        if name in COUNTS and not (name == "train_freq" and isinstance(value, tuple)):
            check_count(name, value)
        elif name in POSITIVE:
            check_share(name, value)
        elif name in FROM_ZERO:
            check_from_zero(name, value)
        elif name == "device":
            _check_device(value)


def check_count(name: str, value: object) -> None:
    """Whether a keyword is a whole number, at least 1.

    :raises InputError: naming it.
    """
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{name} must be a whole number, at least 1, got {value!r}")


def check_share(name: str, value: float, *, below: float = math.inf) -> None:
    """Whether a keyword is a number above 0 and below `below`.

    :raises InputError: naming it.
    """
    if not isinstance(value, int | float) or not 0 < value < below:
        wanted = "finite number above 0" if below == math.inf else f"number above 0, below {below}"
        raise InputError(f"{name} must be a {wanted}, got {value!r}")


def check_from_zero(name: str, value: float) -> None:
    """Whether a keyword is a finite number, 0 or above.

    :raises InputError: naming it.
    """
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"{name} must be a finite number from 0 up, got {value!r}")


def _check_device(value: Any) -> None:
    try:
        torch.device("cpu" if value == "auto" else value)
    except (RuntimeError, TypeError):
        raise InputError(
            f"device must be 'auto', or torch's name of one like 'cpu' or 'cuda:0', got {value!r}"
        ) from None
