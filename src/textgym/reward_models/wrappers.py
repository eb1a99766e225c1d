"""One reward model around another: normalize, clip, squash.

A wrapper keeps the inner model's name, passes its components on and logs the inner score as the
component `raw` (`raw_2`, … where the inner model has that already). None ("does not apply") stays
None. The inner model's spans are dropped: they split a total that is no longer the one paid.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.moved import renamed
from textgym.reward_models.composition import free_name, score_part
from textgym.rewards import Reward, RewardOutput, check_reward, reward_name
from textgym.saved_fields import SavedFields
from textgym.states import load_state_of, state_of

_SMALLEST_STD = 1e-6


class _Wrapper:
    """What the three have in common: everything but `change`."""

    def __init__(self, reward: Reward) -> None:
        self.reward = check_reward(reward)
        self.name = reward_name(reward)

    @property
    def inner_rewards(self) -> list[Reward]:
        """The inner model."""
        return [self.reward]

    def change(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The new scores [b] of the inner ones [b]; NaN stands for None and must stay NaN."""
        raise NotImplementedError

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: the changed scores, and the inner ones as component `raw` (or `raw_2`, …)."""
        answer = score_part(self.reward, prompts, completions, columns, completion_ids)
        changed = self.change(answer.scores)
        components = {key: part.tolist() for key, part in answer.components.items()}
        components[free_name("raw", components)] = answer.scores.tolist()
        scores = [None if np.isnan(score) else float(score) for score in changed]
        return RewardOutput(scores, components, extra=answer.extra)

    def state_dict(self) -> dict[str, Any]:
        """The state of the inner reward, None where it has none; a run's checkpoint keeps it."""
        return {"reward": state_of(self.reward, self.name)}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        fields = SavedFields(state, f"state of {self.name}")
        load_state_of(self.reward, fields.value("reward"), fields.path)


class Clip(_Wrapper):
    """min(max(score, low), high).

    :raises InputError: unless low < high.
    """

    def __init__(self, reward: Reward, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__(reward)
        if not low < high:
            raise InputError(f"clipping needs low < high, got {low} and {high}")
        self.low, self.high = low, high

    def change(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scores [b] in [low, high]."""
        return np.clip(scores, self.low, self.high)


class Squash(_Wrapper):
    """scale · tanh(score / scale): nearly the score itself about 0, never beyond ± scale.

    It takes from a policy what it gains by driving an unbounded score to extremes.

    :raises InputError: for a scale that is not positive and finite.
    """

    def __init__(self, reward: Reward, scale: float = 2.0) -> None:
        super().__init__(reward)
        if not 0 < scale < float("inf"):
            raise InputError(f"scale must be positive and finite, got {scale}")
        self.scale = scale

    def change(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scores [b] in (-scale, scale)."""
        return self.scale * np.tanh(scores / self.scale)


class Normalize(_Wrapper):
    """(score - mean) / std, with statistics that are given, fitted once, or running.

    Fixed statistics are the safe choice: a text keeps its score for the whole run. With
    `running=True` each batch is first added to the statistics (Welford 1962, in the batch form of
    Chan et al. 1979) and then scored by them, so a text's score depends on what came before and on
    the rest of its batch; `freeze()` ends that.

    :param mean: given statistics; both or neither.
    :param std: above 0.
    :param running: gather the statistics from the batches that are scored.
    :raises InputError: if only one of mean and std is given, std is not positive, or they are given
        although running.
    """

    def __init__(
        self,
        reward: Reward,
        mean: float | None = None,
        std: float | None = None,
        *,
        running: bool = False,
    ) -> None:
        super().__init__(reward)
        if (mean is None) != (std is None) or (running and mean is not None):
            raise InputError("normalizing takes mean and std together, or neither and running=True")
        if std is not None and not 0 < std < float("inf"):
            raise InputError(f"std must be positive and finite, got {std}")
        self.running = running
        self.count, self.mean, self._squares = 0, 0.0, 0.0
        self._fixed_std = std
        if mean is not None:
            self.mean = float(mean)

    @property
    def std(self) -> float | None:
        """The standard deviation in use; None before there is one."""
        if self._fixed_std is not None:
            return self._fixed_std
        if self.count < 2:
            return None
        return max(float((self._squares / self.count) ** 0.5), _SMALLEST_STD)

    def fit(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> Self:
        """Take mean and std from these texts, and keep them; returns itself.

        :raises InputError: unless at least two texts get different scores.
        """
        scores = score_part(self.reward, prompts, completions, columns).scores
        scores = scores[~np.isnan(scores)]
        if len(scores) < 2 or not scores.std() > _SMALLEST_STD:
            raise InputError(
                f"{self.name}: normalizing needs texts with different scores, got {len(scores)} "
                "scores without a spread: pass more texts"
            )
        self.mean, self._fixed_std, self.running = float(scores.mean()), float(scores.std()), False
        return self

    def freeze(self) -> Self:
        """Keep the running statistics as they are; returns itself."""
        self._fixed_std, self.running = self.std or 1.0, False
        return self

    def state_dict(self) -> dict[str, Any]:
        """The statistics as JSON takes them, and the inner reward's state."""
        return {
            **super().state_dict(),
            "count": self.count,
            "mean": self.mean,
            "squares": self._squares,
            "std": self._fixed_std,
            "running": self.running,
        }

    def load_state_dict(self, state: Any) -> None:
        """Go on from the statistics of `state_dict`.

        :raises InputError: if a field is missing, or no number where one belongs.
        """
        fields = SavedFields(state, f"state of {self.name}")
        count, running, mean = fields.whole("count"), fields.flag("running"), fields.number("mean")
        squares = fields.number("squares", above=-1e-300)
        std = fields.number("std", above=0) if fields.has("std") else None
        super().load_state_dict(state)
        self.count, self.running, self.mean = count, running, mean
        self._squares, self._fixed_std = squares, std

    def change(self, scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Scores [b] in standard deviations.

        :raises InputError: without any statistics.
        """
        if self.running:
            self._add(scores[~np.isnan(scores)])
        elif self.std is None:
            raise InputError(
                f"{self.name}: nothing to normalize with: pass mean and std, call fit, or "
                "set running=True"
            )
        return (scores - self.mean) / (self.std or 1.0)

    def _add(self, batch: npt.NDArray[np.float64]) -> None:
        """Merge a batch into count, mean and sum of squares."""
        if not len(batch):
            return
        total = self.count + len(batch)
        shift = float(batch.mean()) - self.mean
        self._squares += float(((batch - batch.mean()) ** 2).sum())
        self._squares += shift * shift * self.count * len(batch) / total
        self.mean += shift * len(batch) / total
        self.count = total


__getattr__ = renamed(__name__, {"Normalise": "Normalize"})
