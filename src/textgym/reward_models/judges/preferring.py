"""A judge of pairs as a rater: which of two texts is the better one, for whole files of pairs."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from textgym.async_rewards import AsyncReward, is_async
from textgym.errors import InputError
from textgym.rewards import reward_name


def preferences(
    judge: Any, prompts: Sequence[str], first: Sequence[str], second: Sequence[str]
) -> list[float | None]:
    """The probability that a judge prefers the first text of each pair; None where it abstains.

    :param judge: a `ChatJudge` or `LocalJudge` with `against`, or what has such a `prefer`.
    :raises InputError: if it compares no texts.
    :raises RewardFailure: from the judge.
    """
    judge = judge.reward if isinstance(judge, AsyncReward) else judge
    prefer: Callable[..., Any] | None = getattr(judge, "prefer", None)
    if prefer is None:
        raise InputError(f"{reward_name(judge)} compares no texts: expected a judge of pairs")
    ask = AsyncReward(prefer, reward_name(judge)) if is_async(prefer) else prefer
    return list(ask(list(prompts), list(first), list(second)))


def judged_pairs(judge: Any, pairs: Iterable[tuple[str, str, str]]) -> list[dict[str, Any]]:
    """Pairs as a judge decided them, in the rows of a preference file (as TRL has them).

    :param pairs: prompt, one completion, another one.
    :returns: `prompt`, `chosen`, `rejected`, `is_tie`; pairs that it gave no answer are left out.
    :raises InputError, RewardFailure: as `preferences`.
    """
    listed = list(pairs)
    prompts, first, second = ([pair[part] for pair in listed] for part in range(3))
    rows = []
    for pair, value in zip(listed, preferences(judge, prompts, first, second), strict=True):
        if value is not None:
            prompt, one, other = pair
            chosen, rejected = (one, other) if value >= 0.5 else (other, one)
            row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            rows.append({**row, "is_tie": value == 0.5})
    return rows
