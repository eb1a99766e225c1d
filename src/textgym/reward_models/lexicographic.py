"""Several reward models in strict order: the second decides only where the first is equal."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.composition import check_finite, free_name, score_part
from textgym.rewards import Reward, RewardOutput, check_reward
from textgym.saved_fields import SavedFields
from textgym.states import load_state_of, state_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ranked:
    """A part of a `Lexicographic` order.

    :param reward: a reward model.
    :param low, high: the scores between which texts differ; what lies outside is cut.
    :param levels: into how many equal steps that range is cut. Texts on one step are equal here,
        and the next part decides between them.
    :raises InputError: unless low < high, both finite, and levels is a whole number above 1.
    """

    reward: Reward
    low: float = 0.0
    high: float = 1.0
    levels: int = 2

    def __post_init__(self) -> None:
        check_finite("low", self.low)
        check_finite("high", self.high)
        if not self.low < self.high:
            raise InputError(f"a ranked part needs low < high, got {self.low} and {self.high}")
        if isinstance(self.levels, bool) or not isinstance(self.levels, int) or self.levels < 2:
            raise InputError(f"levels must be a whole number, at least 2, got {self.levels!r}")
        object.__setattr__(self, "reward", check_reward(self.reward))

    def level(self, scores: Floats) -> Floats:
        """0 to levels - 1 of scores [b], NaN for NaN; the highest score is on the last."""
        share = (np.clip(scores, self.low, self.high) - self.low) / (self.high - self.low)
        return np.minimum(np.floor(share * self.levels), self.levels - 1)


class Lexicographic:
    """Parts in strict order: the second counts only between texts that the first finds equal.

    As numbers: with level lₖ of nₖ on part k, the score is Σₖ lₖ Πⱼ₍ⱼ﹥ₖ₎ nⱼ, divided by its
    largest value, so from 0 to 1. A better level of one part outweighs everything after it, and a
    text's score does not depend on other texts. (The thresholded order of Gábor, Kalmár &
    Szepesvári 1998.) A text of which a part says nothing has no score.

    Components are the raw scores by name, the parts' own under `<name>/`, and `<name>/weighted`:
    what each added to the total.

    :param parts: by name, the one that decides first in front.
    :raises InputError: for fewer than two parts, or more than 10⁹ different totals.
    """

    def __init__(self, parts: Mapping[str, Ranked], *, name: str = "lexicographic") -> None:
        self.name, self.parts = name, dict(parts)
        if len(self.parts) < 2 or not all(isinstance(p, Ranked) for p in self.parts.values()):
            raise InputError(
                "a lexicographic order needs at least two parts, as {name: Ranked(reward, low, "
                "high, levels)}, the first decides first"
            )
        totals = math.prod(part.levels for part in self.parts.values())
        if totals > 10**9:
            raise InputError(f"{totals:,} different totals: lower the levels of a part")
        self._largest = totals - 1

    @property
    def inner_rewards(self) -> list[Reward]:
        """The parts' reward models."""
        return [part.reward for part in self.parts.values()]

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: totals in [0, 1], and components.

        :raises RewardError: naming the part whose answer breaks the contract.
        """
        answers = {
            name: score_part(part.reward, prompts, completions, columns, completion_ids)
            for name, part in self.parts.items()
        }
        components: dict[str, Floats] = {name: a.scores for name, a in answers.items()}
        extra: dict[str, Sequence[Any]] = {}
        weighted: dict[str, Floats] = {}
        weight = self._largest + 1
        for name, part in self.parts.items():
            weight //= part.levels
            weighted[name] = part.level(answers[name].scores) * weight / self._largest
            for key, values in answers[name].components.items():
                components[free_name(f"{name}/{key}", components)] = values
            extra |= {f"{name}/{key}": column for key, column in answers[name].extra.items()}
        total = sum(weighted.values(), np.zeros(len(completions)))
        for name, values in weighted.items():
            shown = np.where(np.isnan(total), 0.0, values)
            components[free_name(f"{name}/weighted", components)] = shown
        return RewardOutput(
            [None if math.isnan(score) else score for score in total.tolist()],
            {key: values.tolist() for key, values in components.items()},
            extra=extra,
        )

    def state_dict(self) -> dict[str, Any]:
        """The state of each part, None where it has none."""
        return {name: state_of(part.reward, name) for name, part in self.parts.items()}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none, or of other parts.
        """
        fields = SavedFields(state, f"state of {self.name}")
        for name, part in self.parts.items():
            load_state_of(part.reward, fields.value(name), f"{fields.path}: {name}")
