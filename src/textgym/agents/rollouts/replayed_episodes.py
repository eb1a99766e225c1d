"""The finished episodes of a replay buffer, and as a checkpoint holds them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.agents.rollouts.saved_episodes import finite, joined, split
from textgym.saved_fields import SavedFields


@dataclass(frozen=True)
class ReplayedEpisode:
    """A finished episode of T tokens that the policy chose: 16 bytes for each, and its prompt.

    :param tokens: int32, everything there is at its end, the prompt included.
    :param seen: int32 `[T]`, how many of them the policy saw when it chose.
    :param actions: int32 `[T]`, what it chose.
    :param rewards: float32 `[T]`.
    :param is_truncated: an outer limit cut it, so that its last value is to be bootstrapped.
    """

    tokens: np.ndarray
    seen: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    is_truncated: bool


def episodes_state(episodes: Sequence[ReplayedEpisode]) -> dict[str, Any]:
    """Episodes as arrays, end to end."""
    return {
        "tokens": joined([e.tokens for e in episodes], "int32"),
        "seen": joined([e.seen for e in episodes], "int32"),
        "actions": joined([e.actions for e in episodes], "int32"),
        "rewards": joined([e.rewards for e in episodes], "float32"),
        "is_truncated": np.array([e.is_truncated for e in episodes], dtype=bool),
    }


def episodes_of(fields: SavedFields, vocab_size: int) -> list[ReplayedEpisode]:
    """The inverse of `episodes_state`.

    :param vocab_size: tokens that there are.
    :raises InputError: if they are no episodes of such tokens.
    """
    is_truncated = fields.array("is_truncated", "bool", (None,))
    count, high = len(is_truncated), vocab_size - 1
    tokens = split(fields, "tokens", "int32", count, low=0, high=high)
    seen = split(fields, "seen", "int32", count, low=1)
    actions = split(fields, "actions", "int32", count, low=0, high=high)
    rewards = split(fields, "rewards", "float32", count)
    for row, steps, acted, paid in zip(tokens, seen, actions, rewards, strict=True):
        # Not always rising: SB3's random actions may be padding, which no row is seen to hold.
        is_falling = not len(steps) or bool((np.diff(steps) < 0).any())
        if is_falling or not len(steps) == len(acted) == len(paid) or steps[-1] > len(row):
            raise fields.error("seen", "counts of tokens that never fall, one for each action")
    if not finite(rewards):
        raise fields.error("rewards", "finite numbers")
    columns = zip(tokens, seen, actions, rewards, is_truncated.tolist(), strict=True)
    return [ReplayedEpisode(*parts) for parts in columns]
