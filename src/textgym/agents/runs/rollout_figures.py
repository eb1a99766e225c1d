"""The figures of a rollout: what it says of itself, and what its finished episodes come to."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.text_metrics.metrics import distinct_n, duplicate_share, repetition

FINISH_REASONS = ("stop", "length", "context", "truncated")


@dataclass(frozen=True)
class KLFigures:
    """The KL term of a rollout; docs/metrics.md explains each.

    :param per_episode, weighted: None where no episode ended.
    """

    coefficient: float
    per_token: float
    per_episode: float | None
    weighted: float | None


@dataclass(frozen=True)
class RolloutFigures:
    """What a rollout tells a `Recorder`.

    :param tokens: completion tokens.
    :param mean_log_prob: of the tokens, under the policy that drew them; None if they were given.
    :param kl: None without a KL term.
    :param total_reward: mean of what was optimised, where the algorithm knows it; None: the mean
        reward of the episodes that ended, minus `kl.weighted`.
    :param sampler_gap: nats per token between the sampler's log-probabilities and those that are
        learned from; None where they are the same.
    """

    tokens: int
    mean_log_prob: float | None
    kl: KLFigures | None = None
    total_reward: float | None = None
    sampler_gap: float | None = None


def episode_figures(episodes: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Text metrics of finished episodes, by tag; nothing where no episode ended.

    :param episodes: infos of their last steps, as `TextVecEnv` in `VecMonitor` gives them.
    """
    if not episodes:
        return {}
    figures: dict[str, float] = {}
    rewards = np.array(returns(episodes))
    if len(rewards):
        figures |= {"reward/environment": float(rewards.mean()), "reward/std": float(rewards.std())}
    written = [info for info in episodes if "completion" in info]
    if written:
        texts = [info["completion"] for info in written]
        lengths = np.array([info["completion_length"] for info in written], dtype=np.float64)
        figures |= {
            "text/length": float(lengths.mean()),
            "text/distinct_2": distinct_n(texts, 2),
            "text/repetition": float(np.mean([repetition(text) for text in texts])),
            "text/duplicates": duplicate_share(texts),
            "text/prompts_cut": sum("prompt_cut" in info for info in episodes) / len(episodes),
        }
        if len(rewards) == len(lengths) and lengths.std() > 0 and rewards.std() > 0:
            figures["reward/length_correlation"] = float(np.corrcoef(lengths, rewards)[0, 1])
    spoken = [[turn["who"] for turn in info["turns"]] for info in episodes if "turns" in info]
    if spoken:
        figures["text/turns"] = float(np.mean([who.count("player") for who in spoken]))
    # An outer `TimeLimit` ends an episode of `TextEnv` without a word.
    reasons = [str(info.get("finish_reason", "truncated")) for info in episodes]
    for reason in dict.fromkeys((*FINISH_REASONS, *reasons)):
        figures[f"text/finish_{reason}"] = reasons.count(reason) / len(reasons)
    components: dict[str, list[float]] = {}
    for info in episodes:
        for name, value in info.get("reward_components", {}).items():
            applies = value == value  # NaN: the component says nothing of this text
            components.setdefault(name, []).extend([float(value)] if applies else [])
    for name, values in components.items():
        figures[f"reward_components/{name}"] = float(np.mean(values)) if values else math.nan
    return figures


def returns(episodes: Sequence[dict[str, Any]]) -> list[float]:
    """The environment's reward of each episode that a monitor has seen."""
    return [float(info["episode"]["r"]) for info in episodes if "episode" in info]
