"""A time limit for one part of a reward."""

from collections.abc import Sequence
from typing import Any

from textgym.errors import InputError
from textgym.reward_models.composition import score_part
from textgym.rewards import Reward, RewardOutput, check_reward, reward_name
from textgym.states import load_state_of, state_of


class TimeLimit:
    """A reward model that answers within some seconds, or the error names it.

    A task's `reward_timeout` counts for the reward as a whole; this is for a part of it. Python
    cannot stop a thread, so one that hangs goes on until the process ends: a `WorkerPool`'s
    `timeout` ends its process instead.

    :param reward: a reward model.
    :param seconds: for a call, however many texts it is about.
    :param retries: how often it is asked again after it raised or hung, with a warning.
    :raises InputError: unless seconds is above 0.
    """

    def __init__(self, reward: Reward, seconds: float, *, retries: int = 0) -> None:
        self.reward = check_reward(reward)
        self.name = reward_name(self.reward)
        check_seconds("seconds", seconds)
        self.seconds, self.retries = float(seconds), retries

    @property
    def inner_rewards(self) -> list[Reward]:
        """The inner model."""
        return [self.reward]

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: the reward model's answer.

        :raises RewardFailure: if it is not there in time.
        """
        answer = score_part(
            self.reward,
            prompts,
            completions,
            columns,
            completion_ids,
            timeout=self.seconds,
            retries=self.retries,
        )
        return answer.as_output()

    def state_dict(self) -> Any:
        """The inner model's state; None where it has none."""
        return state_of(self.reward, self.name)

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        load_state_of(self.reward, state, self.name)


def check_seconds(what: str, seconds: object) -> None:
    """Raises unless a time is a number of seconds above 0.

    :raises InputError: naming it.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not 0 < seconds < float("inf"):  # type: ignore[operator]
        raise InputError(f"{what} must be a number of seconds above 0, got {seconds!r:.40}")
