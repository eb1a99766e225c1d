"""A store of labels that cannot be reached: when to try again, and what to say of it."""

import warnings

from textgym.counts import count_of

LONGEST_PAUSE = 64  # rollouts between two tries


class LostStore:
    """Counts rollouts between tries: after one, two, four, ... at most `LONGEST_PAUSE`."""

    def __init__(self) -> None:
        self._failures = self._pause = 0

    def is_pausing(self) -> bool:
        """Whether this rollout is one without a try; to be asked once a rollout."""
        if not self._pause:
            return False
        self._pause -= 1
        return True

    def lost(self, error: Exception, name: str, answers: int) -> None:
        """It could not be reached; one warning until it can.

        :param name: of the reward model, which goes on with so many `answers`.
        """
        if not self._failures:
            warnings.warn(
                f"reward model {name!r}: {error}; the run goes on with the reward it has "
                f"({count_of(answers, 'answer')}) and tries again later",
                stacklevel=3,
            )
        self._pause = min(2**self._failures, LONGEST_PAUSE)
        self._failures += 1

    def reached(self, name: str) -> None:
        """It could be reached; a warning if it was lost."""
        if self._failures:
            warnings.warn(
                f"reward model {name!r}: the store of labels is reached again", stacklevel=3
            )
        self._failures = 0
