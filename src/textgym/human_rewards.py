"""`--reward human,store=labels.db`: people's answers as a reward, by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.composition import score_part
from textgym.reward_models.people.client import open_labels
from textgym.reward_models.people.heads import NgramFeatures, WithHints
from textgym.reward_models.people.human_reward import HumanReward
from textgym.reward_models.people.queries import RuleName
from textgym.rewards import Reward, reward_name
from textgym.rewards_by_name import resolve_reward

PATIENCE = 5.0  # seconds that a rollout waits for a server or another writer, never for a person


def human(
    store: str | Path | None = None,
    *,
    prior: str | None = None,
    hint: str | None = "lexicon",
    queries: RuleName = "disagreement",
    waiting: int = 24,
    first: int = 20,
    every: int = 10,
    members: int = 5,
    caution: float = 0.0,
    held_out: float = 0.0,
    most: int | None = None,
    run: str | None = None,
    seed: int = 0,
) -> HumanReward:
    """What people answer on the page of `textgym label`, while the policy trains.

    :param store: a file, made if missing, or the URL of its server (its token in the variable
        TEXTGYM_LABEL_TOKEN).
    :param prior: name of the reward to train on until there are answers; its score is a hint after
        that. None only collects: each text is worth 0.
    :param hint: name of a reward model whose score stands beside the n-grams that the answers are
        fitted to; None for none.
    :raises InputError: without a store, or as `HumanReward`.
    """
    if store is None:
        raise InputError("reward 'human' needs a store of labels: 'human,store=labels.db'")
    asked = None if prior is None else resolve_reward(prior)
    beside = {} if asked is None else {reward_name(asked): asked}
    if hint is not None:
        hinted = resolve_reward(hint)
        beside.setdefault(reward_name(hinted), hinted)
    hints = {name: _of_texts(reward) for name, reward in beside.items()}
    features = NgramFeatures()
    return HumanReward(
        open_labels(store, patience=PATIENCE),
        WithHints(features, hints) if hints else features,
        prior=asked,
        queries=queries,
        waiting=waiting,
        first=first,
        every=every,
        members=members,
        caution=caution,
        held_out=held_out,
        most=most,
        run=run,
        seed=seed,
    )


def _of_texts(reward: Reward) -> Callable[[Sequence[str]], npt.NDArray[np.float64]]:
    """A reward model as numbers for whole texts; 0 where it says nothing of one."""

    def score(texts: Sequence[str]) -> Any:
        if not texts:
            return np.zeros(0)
        return np.nan_to_num(score_part(reward, [""] * len(texts), list(texts), {}).scores)

    return score
