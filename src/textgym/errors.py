"""Every error that textgym raises on purpose, and the did-you-mean that they share.

The command line turns them into one line and an exit code; a library user catches `TextGymError`.
"""

import difflib
from collections.abc import Iterable


class TextGymError(Exception):
    """Base of all errors that textgym raises on purpose. `exit_code` is the command line's."""

    exit_code = 2


class InputError(TextGymError, ValueError):
    """Something the user gave is wrong: the message says what was expected, what came, what now."""


class UnknownNameError(InputError, KeyError):
    """A name that no registry, option or file knows."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr


class RenderModeError(UnknownNameError, TypeError):
    """A render mode that no environment here has."""


class RewardError(InputError):
    """A reward model raised, hung or returned what the contract forbids."""


class RewardFailure(RewardError):
    """A reward model raised or hung: asked again, it may answer (`reward_retries`)."""


class DivergenceError(TextGymError):
    """Weights, advantages or losses that are not finite: what diverged, and what to lower.

    What was saved before stays as it is.
    """


class OutOfMemoryError(TextGymError, MemoryError):
    """Memory ran out in training; the message says what to lower."""


class StorageError(TextGymError, OSError):
    """Something could not be written or is in use."""

    exit_code = 3

    def __str__(self) -> str:
        return str(self.args[0])


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for an unknown name, with the nearest known ones.

    :param kind: what the name should have been, in the singular ("reward model").
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if nearest:
        hint = f"did you mean {nearest[0]!r}?"
    else:
        hint = f"known: {', '.join(names) or 'none'}"
    return UnknownNameError(f"unknown {kind} {name!r}: {hint}")
