"""Several reward models as one: the weighted sum, every part logged, shadows included."""

import functools
import itertools
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.rewards import Reward, RewardOutput, call_reward, check_reward, reward_name
from textgym.saved_fields import SavedFields
from textgym.states import load_state_of, state_of

_OWN = "\0own"  # a component's name that no reward model uses

Weighted = tuple[Reward, float]


@dataclass(frozen=True)
class PartScores:
    """A part's checked answer. :param scores: float64 [b], NaN where it gave None."""

    scores: npt.NDArray[np.float64]
    components: dict[str, npt.NDArray[np.float64]]
    spans: Sequence[Sequence[tuple[int, int, float]]] | None
    extra: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def as_output(self) -> RewardOutput:
        """The same as a reward model returns it."""
        return RewardOutput(
            [None if math.isnan(score) else score for score in self.scores.tolist()],
            {name: values.tolist() for name, values in self.components.items()},
            self.spans,
            self.extra,
        )


def _may_abstain(reward: Reward) -> Reward:
    """The same reward model for the seam, with None ("does not apply") turned into a component."""

    @functools.wraps(reward, assigned=(), updated=())  # the seam reads the part's own signature
    def ask_part(*arguments: Any, **keywords: Any) -> RewardOutput:
        answer = reward(*arguments, **keywords)
        output = answer if isinstance(answer, RewardOutput) else RewardOutput(answer)
        if not isinstance(output.scores, list | tuple) or not isinstance(
            output.components, Mapping
        ):
            return output  # the seam judges it
        has_score = [math.nan if score is None else 1.0 for score in output.scores]
        filled: list[Any] = [0.0 if score is None else score for score in output.scores]
        components = {**output.components, _OWN: has_score}
        return RewardOutput(filled, components, output.spans, output.extra)

    ask_part.name = reward_name(reward)  # type: ignore[attr-defined]
    return ask_part


def score_part(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    completion_ids: Sequence[Sequence[int]] | None = None,
    *,
    step: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
) -> PartScores:
    """Ask a part through the contract's seam; only here may it answer None.

    :param completion_ids: for a part that names them, as `call_reward`'s.
    :param step, timeout, retries: as `call_reward`'s.
    :raises RewardError: naming the part, for everything else that the contract forbids.
    """
    output = call_reward(
        _may_abstain(reward),
        prompts,
        completions,
        columns,
        completion_ids=completion_ids,
        step=step,
        timeout=timeout,
        retries=retries,
    )
    components = {name: np.asarray(values) for name, values in output.components.items()}
    has_score = components.pop(_OWN, np.ones(len(completions)))
    scores = np.where(np.isnan(has_score), np.nan, np.asarray(output.scores, np.float64))
    return PartScores(scores, components, output.spans, output.extra)


def free_name(name: str, taken: Container[str]) -> str:
    """`name`, or the first of `name_2`, `name_3`, … that nobody has."""
    names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
    return next(candidate for candidate in names if candidate not in taken)


class WeightedSum:
    """Σ weight · score over the parts; a part that answers None drops out for that text.

    Every part is logged as component `<name>` (raw) and `<name>/weighted`, its own components as
    `<name>/<component>`; where such a name is another part's or component's already, `_2` is added
    to it. A part of weight 0 is a shadow: scored and logged, never part of the total
    (but a shadow that breaks the contract is an error like any other). If every part of weight
    other than 0 answers None, so does the sum.

    :param parts: `{name: (reward, weight)}`, or a list of `(reward, weight)` that go by their own
        names. A bare reward has weight 1.
    :param name: the sum's name in logs.
    :raises InputError: for no part, a name twice, a weight that is not finite.
    """

    def __init__(
        self,
        parts: Mapping[str, Reward | Weighted] | Sequence[Reward | Weighted],
        *,
        name: str = "weighted_sum",
    ) -> None:
        self.name = name
        if isinstance(parts, Mapping):
            named = [(key, *_with_weight(part)) for key, part in parts.items()]
        else:
            pairs = [_with_weight(part) for part in parts]
            named = [(reward_name(reward), reward, weight) for reward, weight in pairs]
        names = [key for key, _, _ in named]
        twice = sorted({key for key in names if names.count(key) > 1})
        if not named or twice:
            raise InputError(
                f"a weighted sum needs parts with different names, got {names}: "
                "pass {name: (reward, weight)}"
            )
        self.parts: list[tuple[str, Reward, float]] = named

    @property
    def inner_rewards(self) -> list[Reward]:
        """The parts."""
        return [reward for _, reward, _ in self.parts]

    def state_dict(self) -> dict[str, Any]:
        """The state of each part, None where it has none; a run's checkpoint keeps it."""
        return {name: state_of(reward, name) for name, reward, _ in self.parts}

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none, or of other parts.
        """
        fields = SavedFields(state, f"state of {self.name}")
        for name, reward, _ in self.parts:
            load_state_of(reward, fields.value(name), f"{fields.path}: {name}")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: total, every part raw and weighted, and the weighted spans of parts with any.

        :param completion_ids: passed on to the parts that name them.

        :raises RewardError: naming the part whose answer breaks the contract.
        """
        total = np.zeros(len(completions))
        applies = np.zeros(len(completions), bool)
        components: dict[str, npt.NDArray[np.float64]] = {}
        parts: list[tuple[str, npt.NDArray[np.float64], dict[str, npt.NDArray[np.float64]]]] = []
        spans: list[list[tuple[int, int, float]]] = [[] for _ in completions]
        extra: dict[str, Sequence[Any]] = {}
        for name, reward, weight in self.parts:
            answer = score_part(reward, prompts, completions, columns, completion_ids)
            components[name] = answer.scores
            extra |= {f"{name}/{key}": column for key, column in answer.extra.items()}
            weighted = np.where(np.isnan(answer.scores), 0.0, answer.scores) * weight
            parts.append((name, weighted, answer.components))
            if weight == 0:
                continue
            total += weighted
            applies |= ~np.isnan(answer.scores)
            for row, own in zip(spans, answer.spans or [()] * len(spans), strict=True):
                row.extend((start, end, amount * weight) for start, end, amount in own)
        for name, _, own_components in parts:
            for key, part in own_components.items():
                components[free_name(f"{name}/{key}", components)] = part
        for name, weighted, _ in parts:
            components[free_name(f"{name}/weighted", components)] = weighted
        scores = [float(t) if a else None for t, a in zip(total, applies, strict=True)]
        return RewardOutput(
            scores,
            {key: part.tolist() for key, part in components.items()},
            spans if any(spans) else None,
            extra,
        )


def _with_weight(part: Reward | Weighted) -> Weighted:
    reward, weight = part if isinstance(part, tuple) else (part, 1.0)
    check_finite(f"the weight of {reward_name(reward)!r}", weight)
    return check_reward(reward), float(weight)


def check_finite(what: str, value: object) -> None:
    """Raises unless a setting is a finite number.

    :param what: what it is called.
    :raises InputError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{what} must be a finite number, got {value!r:.40}")
