"""A reward model with others beside it that look on: scored and logged, never paid."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from textgym.errors import RewardError
from textgym.reward_models.composition import PartScores, free_name, score_part
from textgym.rewards import Reward, RewardOutput, check_reward, reward_name
from textgym.saved_fields import SavedFields
from textgym.states import load_state_of, state_of


def says_nothing(count: int) -> PartScores:
    """The answer of a reward model that says nothing of so many texts."""
    return PartScores(np.full(count, np.nan), {}, None)


def warn_of_shadow(error: RewardError) -> None:
    """Say that a reward model failed which only looks on."""
    warnings.warn(f"{error}: it only looks on, and says nothing of these texts", stacklevel=3)


class WithShadows:
    """A reward model as it is, and the scores of its shadows as further components.

    Scores, components and spans are the reward model's own, to the last bit. Each shadow adds the
    component `<name>`, and its own components as `<name>/<component>`; NaN where it says nothing of
    a text. One that raises, or breaks the contract, says nothing of these texts: whoever looks on
    ends no training. The first time a warning says so.

    :param reward: what is paid.
    :param shadows: reward models by name.
    :param label: what the reward is called beside them; None: its own name.
    """

    def __init__(
        self, reward: Reward, shadows: Mapping[str, Reward], *, label: str | None = None
    ) -> None:
        self.reward = check_reward(reward)
        self.shadows = {name: check_reward(shadow) for name, shadow in shadows.items()}
        self.name = reward_name(self.reward)
        self.label = self.name if label is None else label
        self._has_failed: set[str] = set()

    @property
    def inner_rewards(self) -> list[Reward]:
        """The reward model and its shadows."""
        return [self.reward, *self.shadows.values()]

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: the reward model's answer, with the shadows' scores among the components.

        :raises RewardError: from the reward model itself.
        """
        answer = score_part(self.reward, prompts, completions, columns, completion_ids)
        components: dict[str, Any] = dict(answer.components)
        extra = dict(answer.extra)
        for name, shadow in self.shadows.items():
            try:
                looked = score_part(shadow, prompts, completions, columns, completion_ids)
            except RewardError as error:
                if name not in self._has_failed:
                    warn_of_shadow(error)
                self._has_failed.add(name)
                looked = says_nothing(len(completions))
            components[free_name(name, components)] = looked.scores
            extra |= {f"{name}/{key}": column for key, column in looked.extra.items()}
            for key, part in looked.components.items():
                components[free_name(f"{name}/{key}", components)] = part
        scores = [None if np.isnan(score) else float(score) for score in answer.scores]
        columns = {key: part.tolist() for key, part in components.items()}
        return RewardOutput(scores, columns, answer.spans, extra)

    def state_dict(self) -> dict[str, Any] | None:
        """The state of each; None where none of them has one."""
        reward = state_of(self.reward, self.name)
        shadows = {name: state_of(shadow, name) for name, shadow in self.shadows.items()}
        if reward is None and not any(state is not None for state in shadows.values()):
            return None
        return {"reward": reward, "shadows": shadows}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none, or of other parts.
        """
        fields = SavedFields(state, f"state of {self.name} and its shadows")
        load_state_of(self.reward, fields.value("reward"), fields.path)
        states = fields.table("shadows")
        for name, shadow in self.shadows.items():
            load_state_of(shadow, states.value(name), f"{fields.path}: {name}")
