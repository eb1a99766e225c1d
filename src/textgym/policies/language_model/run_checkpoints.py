"""Which checkpoint a path means, and what is taken where that one is damaged.

A run directory keeps `checkpoints/best` and `checkpoints/last`, and as `checkpoints/previous` what
`last` was before. Each is read as one save left it; where it is damaged, the next one that is whole
is taken with a warning that says so.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from textgym.directories import holds, read_directory
from textgym.errors import InputError
from textgym.manifest import is_whole, original_of
from textgym.paths import expand
from textgym.run_files import BEST, CHECKPOINTS, LAST, PREVIOUS

R = TypeVar("R")


def checkpoints_of(path: str | Path, file: str) -> list[Path]:
    """The directories that a path may mean, in order: itself, or those of a run directory.

    :param file: that a directory must hold to count.
    """
    path = expand(path)
    found = [path / CHECKPOINTS / name for name in (BEST, LAST, PREVIOUS)]
    found = [place for place in found if holds(place, file)]
    if not holds(path, file):
        return found
    return [*found, path] if found and original_of(path) is not None else [path]


def read_first_whole(
    places: Sequence[Path], read: Callable[[Path], R], *, must_have_manifest: bool = False
) -> R:
    """What `read` makes of the first of the directories that can be read; the others are warned of.

    :param places: at least one.
    :raises InputError: of the first, if none can be; it names another checkpoint that is whole.
    """
    first: InputError | None = None
    for place in places:
        try:
            result = read_directory(place, read, must_have_manifest=must_have_manifest)
        except InputError as error:
            first = first or error
            continue
        if first is not None:
            warnings.warn(f"{first}: went on with {place} instead", stacklevel=3)
        return result
    assert first is not None
    raise _with_another(first, places[0])


def _with_another(error: InputError, place: Path) -> InputError:
    """The error, naming another checkpoint of the same run that is whole."""
    if place.parent.name != CHECKPOINTS or is_whole(place):
        return error
    for name in (BEST, LAST, PREVIOUS):
        other = place.with_name(name)
        if other.name != place.name and os.path.isdir(other) and is_whole(other):
            return InputError(f"{error}; {other} is whole")
    return error
