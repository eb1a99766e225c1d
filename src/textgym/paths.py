"""Paths as users write them: "~" is their home, and a place once named stays that place."""

import os
from pathlib import Path


def expand(path: str | os.PathLike[str]) -> Path:
    """A path with "~" or "~user" at its beginning replaced by the home directory.

    A shell does so for `--out runs`, but not for `--out=~/runs`, and Python never does. As in a
    shell, a name that is no user's stays as it is.
    """
    return Path(os.path.expanduser(path))


def absolute(path: str | os.PathLike[str]) -> Path:
    """As `expand`, and independent of the current folder from now on (links are not followed)."""
    return Path(os.path.abspath(expand(path)))
