"""Dense rewards on their way from the environment to a buffer, through whatever changes them.

Stable-Baselines3 hands nothing but the rewards to its rollout buffer, so the split over tokens
travels on the array. It follows arithmetic exactly: a factor goes to every token, a shift to the
last one. What else a wrapper did (a clip, a sign, numbers of its own), the buffer sees in the
total, to which it fits the split (`textgym.envs.dense_rewards.fit_split`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnvWrapper

from textgym.divergence import check_arrays
from textgym.envs.dense_rewards import fit_split
from textgym.envs.scoring import FinishedText

Splits = dict[int, np.ndarray]


class SplitRewards(np.ndarray):
    """Rewards [n] that also say how an ended episode's reward splits over its tokens.

    `token_rewards` maps a row to float64 [completion_length], in order. Results of arithmetic keep
    the split; single rows, parts and numbers made of all rows are plain.
    """

    token_rewards: Splits

    @classmethod
    def of(cls, rewards: np.ndarray, token_rewards: Splits) -> "SplitRewards":
        """The same rewards with a split."""
        split = rewards.view(cls)
        split.token_rewards = token_rewards
        return split

    def __array_finalize__(self, source: Any) -> None:
        """Copies and other dtypes have the split of what they were made from."""
        is_whole = source is not None and source.size == self.size
        self.token_rewards = getattr(source, "token_rewards", {}) if is_whole else {}

    def __getitem__(self, index: Any) -> Any:
        """Rows in another order, or some of them, would not fit the split."""
        return self.view(np.ndarray)[index]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **keywords: Any) -> Any:
        """NumPy's arithmetic, and the split with it."""
        is_masked = "where" in keywords
        follows = method == "__call__" and not is_masked
        splits = _followed(ufunc, inputs, self) if follows else self.token_rewards
        targets = keywords.pop("out", None)
        if targets is not None:
            keywords["out"] = tuple(map(_plain, targets))
        result = getattr(ufunc, method)(*map(_plain, inputs), **keywords)
        if targets is not None:
            for target in targets:
                if isinstance(target, SplitRewards):
                    target.token_rewards = splits
            return targets[0] if len(targets) == 1 else targets
        is_rewards = isinstance(result, np.ndarray) and result.shape == self.shape
        if method == "__call__" and is_rewards and result.dtype.kind == "f":
            return SplitRewards.of(result, splits)
        return result


def _plain(value: Any) -> Any:
    return value.view(np.ndarray) if isinstance(value, SplitRewards) else value


def _followed(ufunc: Any, inputs: Sequence[Any], rewards: SplitRewards) -> Splits:
    """The split after `ufunc(*inputs)`, where that is a factor or a shift; else as it was."""
    places = [i for i, value in enumerate(inputs) if isinstance(value, SplitRewards)]
    before = inputs[places[0]].token_rewards if len(places) == 1 else rewards.token_rewards
    if not before or len(places) != 1:
        return before
    if ufunc is np.negative:
        return {row: -split for row, split in before.items()}
    if ufunc not in (np.multiply, np.true_divide, np.add, np.subtract):
        return before
    is_first = places[0] == 0
    try:
        other = np.broadcast_to(np.asarray(inputs[1 if is_first else 0]), rewards.shape)
    except ValueError:
        return before
    if ufunc is np.multiply:
        return {row: split * other[row] for row, split in before.items()}
    if ufunc is np.true_divide:
        return {row: split / other[row] for row, split in before.items()} if is_first else before
    sign = -1.0 if ufunc is np.subtract else 1.0
    kept, added = (1.0, sign) if is_first else (sign, 1.0)
    return {row: shifted(kept * split, added * other[row]) for row, split in before.items()}


def shifted(split: np.ndarray, amount: float) -> np.ndarray:
    """A split [t] with `amount` more at its last token, where a wrapper's step paid it."""
    changed = split.copy()
    changed[-1] += amount
    return changed


def with_split(
    rewards: np.ndarray, dones: np.ndarray, infos: Sequence[dict[str, Any]]
) -> np.ndarray:
    """Rewards [n] with the splits of the infos, unless they still have theirs."""
    if isinstance(rewards, SplitRewards) and rewards.token_rewards:
        return rewards
    splits = {
        row: np.asarray(infos[row]["token_rewards"], dtype=np.float64)
        for row in np.flatnonzero(dones).tolist()
        if "token_rewards" in infos[row]
    }
    return SplitRewards.of(np.asarray(rewards), splits) if splits else rewards


def spread(stored: np.ndarray, split: np.ndarray) -> None:
    """Give each step of an episode its share of the reward that its last step was paid, in place.

    What a wrapper paid at earlier steps stays there.

    :param stored: float32 [t], the rewards of the episode's steps that a buffer has.
    :param split: float64, one share for each token of the episode; those of tokens that were
        written before the first stored one go to it.
    """
    split = fit_split(split, float(stored[-1]))
    shares = np.zeros(len(stored))
    count = min(len(stored), len(split))
    shares[-count:] = split[-count:]
    shares[-count] += split[:-count].sum()
    stored[-1] = 0.0
    stored += shares


def await_score(text: FinishedText, rewards: np.ndarray, place: Any = ...) -> None:
    """Have an episode's score added to its stored rewards once it is there.

    A score that is no finite float32 raises a `DivergenceError` then.

    :param rewards: float32, a buffer's; `rewards[place]` [t] are those of the episode.
    """
    text.listeners.append(_Pay(rewards, place))


@dataclass(eq=False)
class _Pay:
    """An object with the whole array, so that copies of the text pay the copy of the buffer."""

    rewards: np.ndarray
    place: Any

    def __call__(self, text: FinishedText) -> None:
        stored = self.rewards[self.place]
        stored[-1] += np.float32(text.reward)
        if "token_rewards" in text.ending:
            spread(stored, text.ending["token_rewards"])
        check_arrays({"rewards": stored})


class DenseRewards(VecEnvWrapper):
    """Puts the split of dense rewards back on them, outermost, for environments that lose it.

    `textgym.make_vec` and `make_agent` need none of it: it is for Stable-Baselines3's own
    `DummyVecEnv`, or around a wrapper that makes arrays of its own.
    """

    def reset(self) -> Any:
        """As the wrapped environment's."""
        return self.venv.reset()

    def step_wait(self) -> Any:
        """As the wrapped environment's; the rewards are `SplitRewards` where an episode ended."""
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, with_split(rewards, dones, infos), dones, infos
