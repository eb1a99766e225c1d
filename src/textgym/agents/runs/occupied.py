"""What stands in a directory that is to become a run's: another run, somebody's files, nothing."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from textgym.agents.runs.settings import read_config
from textgym.errors import InputError
from textgym.manifest import MANIFEST
from textgym.run_files import (
    CHECKPOINTS,
    CONFIG,
    HELD_OUT,
    HELD_OUT_PROMPTS,
    HELD_OUT_SCORES,
    HELD_OUT_SETTINGS,
    LATENT_HELD_OUT,
    METRICS,
    PROVENANCE,
    REWARD_EXTRA,
    SAMPLES,
    TENSORBOARD,
)
from textgym.storage import LOCK, TEMPORARY

_RECORDS = (
    *(CONFIG, METRICS, PROVENANCE, REWARD_EXTRA, SAMPLES, TENSORBOARD),
    *(HELD_OUT, HELD_OUT_SETTINGS, HELD_OUT_PROMPTS, HELD_OUT_SCORES, LATENT_HELD_OUT),
)
_NOBODYS = frozenset({LOCK, ".gitkeep", ".gitignore", ".DS_Store", ".ipynb_checkpoints"})


def holds_run(directory: Path) -> bool:
    """Whether there is a run in a directory that must not be written over."""
    if not directory.is_dir():
        return False
    if (directory / CONFIG).exists():
        return has_checkpoint(directory)
    # Without settings, but with a record: no run of today's, but somebody's all the same.
    return any((directory / name).exists() for name in (METRICS, SAMPLES))


def has_checkpoint(directory: Path) -> bool:
    """Whether something was saved that somebody could go on from."""
    checkpoints = directory / CHECKPOINTS
    saved = list(checkpoints.iterdir()) if checkpoints.is_dir() else []
    for depth in ("*", "*/*", "*/*/*"):  # the demo's stand in folders of their own
        saved += [path.parent for path in directory.glob(f"{depth}/{MANIFEST}")]
    return any(not _is_unfinished(path.name) for path in saved)


def is_empty(directory: Path) -> bool:
    """Whether nothing stands there that belongs to anybody."""
    if not directory.exists():
        return True
    return directory.is_dir() and not _somebodys(directory)


def check_place(directory: Path) -> None:
    """Raises unless a run may begin here.

    :raises InputError: for a file, and for a directory of other things.
    """
    if directory.exists() and not directory.is_dir():
        raise InputError(f"{directory}: is a file; --out names a directory")
    if directory.is_dir() and not (_is_run(directory) or is_empty(directory)):
        raise InputError(
            f"{directory}: holds {min(_somebodys(directory))!r:.60} and no run; --out names a new "
            "directory, an empty one, or that of a run"
        )


def remove_records(directory: Path) -> None:
    """Remove what a run writes before its first checkpoint, and nothing else.

    Rows of a record stay under another name: somebody may have removed the checkpoints alone.
    """
    for name in (METRICS, REWARD_EXTRA, SAMPLES, HELD_OUT, HELD_OUT_SCORES, LATENT_HELD_OUT):
        rows = directory / name
        if rows.is_file() and rows.stat().st_size:
            count = len(list(directory.glob(f"{name}.*")))
            rows.rename(directory / f"{name}.{count + 1}")
    for name in _RECORDS:
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)


def _somebodys(directory: Path) -> Iterable[str]:
    return {path.name for path in directory.iterdir()} - _NOBODYS


def _is_run(directory: Path) -> bool:
    """Whether the settings in a directory are a run's, and not somebody's own."""
    if holds_run(directory) or (directory / PROVENANCE).exists():
        return True
    try:
        return isinstance(read_config(directory).get("verb"), str)
    except InputError:
        return False


def _is_unfinished(name: str) -> bool:
    """Whether a crash left it half-written (one that was moved aside is whole)."""
    return name.startswith(TEMPORARY) and not name.startswith(f"{TEMPORARY}old-")
