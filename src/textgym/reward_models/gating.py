"""A reward that is paid only where a condition holds."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.reward_models.composition import PartScores, check_finite, free_name, score_part
from textgym.rewards import Reward, RewardOutput, check_reward, reward_name
from textgym.saved_fields import SavedFields
from textgym.states import load_state_of, state_of

Floats = npt.NDArray[np.float64]


class Gate:
    """`reward` where `condition` scores at least `threshold`, `otherwise` elsewhere.

    The reward is asked only about texts that pass: a cheap condition spares a dear one. A text of
    which the condition says nothing (None) does not pass.

    Components are both scores by name (NaN where the reward was not asked), their own components
    under `<name>/`, and `<name>/weighted`: what each added to the total.

    :param reward: what is paid.
    :param condition: a reward model.
    :param threshold: of the condition's score.
    :param otherwise: what a text gets that does not pass; None: the gate says nothing of it, which
        counts only inside a weighted sum.
    :param name: in logs; None: the reward's.
    :raises InputError: for a number that is not finite.
    """

    def __init__(
        self,
        reward: Reward,
        condition: Reward,
        *,
        threshold: float = 0.5,
        otherwise: float | None = 0.0,
        name: str | None = None,
    ) -> None:
        self.reward, self.condition = check_reward(reward), check_reward(condition)
        check_finite("threshold", threshold)
        if otherwise is not None:
            check_finite("otherwise", otherwise)
        self.threshold, self.otherwise = threshold, otherwise
        self.name = reward_name(self.reward) if name is None else name

    @property
    def inner_rewards(self) -> list[Reward]:
        """The condition and the reward."""
        return [self.condition, self.reward]

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: totals and components; spans of the reward where a text passes.

        :raises RewardError: naming the one whose answer breaks the contract.
        """
        asked = score_part(self.condition, prompts, completions, columns, completion_ids)
        is_open = asked.scores >= self.threshold  # NaN is not
        rows = np.flatnonzero(is_open).tolist()
        texts = len(completions)
        paid = _score_rows(self.reward, rows, prompts, completions, columns, completion_ids)
        fallback = math.nan if self.otherwise is None else self.otherwise
        total = np.where(is_open, _spread(paid.scores, rows, texts), fallback)
        components: dict[str, Any] = {}
        names = []
        scores = (asked.scores, _spread(paid.scores, rows, texts))
        for reward, values in zip(self.inner_rewards, scores, strict=True):
            names.append(free_name(reward_name(reward), components))
            components[names[-1]] = values
        for name, answer, own in zip(names, (asked, paid), (None, rows), strict=True):
            for key, part in answer.components.items():
                values = part if own is None else _spread(part, own, texts)
                components[free_name(f"{name}/{key}", components)] = values
        added = (np.where(is_open, 0.0, total), np.where(is_open, total, 0.0))
        for name, values in zip(names, added, strict=True):
            components[free_name(f"{name}/weighted", components)] = np.nan_to_num(values)
        extra: dict[str, Sequence[Any]] = dict(asked.extra)
        for name, column in paid.extra.items():
            by_row = dict(zip(rows, column, strict=True))
            extra[free_name(name, extra)] = [by_row.get(row) for row in range(texts)]
        return RewardOutput(
            [None if math.isnan(score) else score for score in total.tolist()],
            {key: values.tolist() for key, values in components.items()},
            _spread_spans(paid, rows, texts),
            extra,
        )

    def state_dict(self) -> dict[str, Any]:
        """The states of both, None where there is none."""
        parts = {"condition": self.condition, "reward": self.reward}
        return {name: state_of(part, name) for name, part in parts.items()}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        fields = SavedFields(state, f"state of {self.name}")
        load_state_of(self.condition, fields.value("condition"), fields.path)
        load_state_of(self.reward, fields.value("reward"), fields.path)


def _score_rows(
    reward: Reward,
    rows: Sequence[int],
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    completion_ids: Sequence[Sequence[int]] | None,
) -> PartScores:
    """What a reward says of some of the texts; nothing is asked about none."""
    if not rows:
        return PartScores(np.zeros(0), {}, None)
    return score_part(
        reward,
        [prompts[row] for row in rows],
        [completions[row] for row in rows],
        {name: [values[row] for row in rows] for name, values in columns.items()},
        None if completion_ids is None else [completion_ids[row] for row in rows],
    )


def _spread(values: Floats, rows: Sequence[int], length: int) -> Floats:
    """`values` [rows] at their places in [length], NaN elsewhere."""
    spread = np.full(length, np.nan)
    spread[list(rows)] = values
    return spread


def _spread_spans(
    answer: PartScores, rows: Sequence[int], length: int
) -> list[Sequence[tuple[int, int, float]]] | None:
    if answer.spans is None:
        return None
    spans: list[Sequence[tuple[int, int, float]]] = [()] * length
    for row, own in zip(rows, answer.spans, strict=True):
        spans[row] = own
    return spans
