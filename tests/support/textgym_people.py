"""People and stores for tests of the closed loop."""

import numpy as np

from textgym.errors import StorageError
from textgym.reward_models.people.human_reward import HumanReward
from textgym.reward_models.people.store import LabelStore


class LetterCounts:
    """Features that a test can work out: how often a, b, c and d occur."""

    name, size = "letters", 4

    def __call__(self, texts):
        return np.array([[float(text.count(c)) for c in "abcd"] for text in texts]).reshape(-1, 4)


def likes_a(prompt, first, second, rng):
    """A person who wants the letter a."""
    one, other = first.count("a"), second.count("a")
    return "tie" if one == other else "first" if one > other else "second"


class FlakyLabels:
    """A store that can be made unreachable."""

    def __init__(self, store):
        self.store, self.is_gone, self.calls = store, False, 0

    def __getattr__(self, name):
        self.calls += 1
        if self.is_gone:
            raise StorageError("labels.db: locked by another program")
        return getattr(self.store, name)


def human_reward(labels, **keywords):
    """A `HumanReward` that refits early."""
    settings = {"first": 4, "every": 3, "waiting": 6, "members": 3, "seed": 0, **keywords}
    return HumanReward(labels, LetterCounts(), **settings)


def new_store(path):
    """A store without hidden repeats."""
    return LabelStore(path, repeats=0.0, gold=0.0, seed=1)
