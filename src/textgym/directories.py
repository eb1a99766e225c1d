"""Directories that are saved and read as a whole, whatever else stands in them.

A save fills a staging directory. Where the target is new or holds nothing but our own files, the
staging directory takes its name. Where files of somebody else's stand there too, they stay: staged
inside the target, our files are put in place one by one, the manifest last, and the staging
directory goes when all is done. So at any moment a whole save, old or new, is at the target, in the
staging directory inside it, or moved aside beside it; readers look there and never write.
"""

import contextlib
import fcntl
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from textgym.errors import InputError, StorageError
from textgym.manifest import (
    MANIFEST,
    fingerprint,
    is_whole,
    listed_files,
    sha256,
    verify_directory,
    write_manifest,
)
from textgym.storage import TEMPORARY, cannot_write, sync

R = TypeVar("R")
_STAGING = f"{TEMPORARY}save-"
_ATTEMPTS = 50  # of a reader, while another process saves again and again


@contextlib.contextmanager
def atomic_directory(
    path: str | Path, *, copy_of: str | None = None, keep_old_as: str | None = None
) -> Iterator[Path]:
    """Fill a staging directory; its files stand in `path` only when all are on the disk.

    After a crash either the old save or the new one can be read. A manifest with the SHA-256 of
    every file is added. Files that no manifest of ours lists stay; a link is followed.

    :param copy_of: for the manifest: where below `path` the original of the files stands.
    :param keep_old_as: the name beside `path` under which the old directory is kept.
    :raises InputError: if one of our files would replace one that we did not write.
    :raises StorageError: if the disk is full or the place cannot be written.
    """
    given, path = Path(path), _resolved(path)
    staging: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        is_inside = path.exists() and not _may_be_swapped(path)
        staging = _free_name(path, is_inside=is_inside)
        os.mkdir(staging)
        with _held(staging):
            yield staging
            _finish(staging, path, copy_of)
            if not is_inside and path.exists() and not _may_be_swapped(path):
                # Files of somebody else's came while ours were written.
                is_inside, beside = True, staging
                staging = _free_name(path, is_inside=True)
                os.rename(beside, staging)
            if is_inside:
                _refuse_foreign(staging, path, given)
                merged, staging = staging, None  # until all is done a reader may need it
                _merge(merged, path)
                shutil.rmtree(merged, ignore_errors=True)
            else:
                _swap(staging, path, keep_old_as)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise cannot_write(given, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def read_directory(
    path: str | Path, read: Callable[[Path], R], *, must_have_manifest: bool = False
) -> R:
    """What `read` makes of a directory as one save left it; another process may save meanwhile.

    :param read: gets the directory to read from, and is called again where it changed.
    :param must_have_manifest: False for what another project may have written.
    :raises InputError: if it is missing or damaged, or of `read`.
    """
    path = Path(path)
    for attempt in range(_ATTEMPTS):
        time.sleep(min(0.002 * attempt, 0.02))
        places = _places(path) or [path]
        before = list(map(fingerprint, places))
        try:
            place = _first_whole(places, must_have_manifest)
            result = read(place)
        except (InputError, OSError):
            if (_places(path) or [path]) == places and list(map(fingerprint, places)) == before:
                raise
        else:
            if fingerprint(place) == before[places.index(place)]:
                return result
    raise InputError(f"{path}: other processes save there all the time; try again")


def holds(path: str | Path, file: str) -> bool:
    """Whether a directory, as the last save left it, holds a file."""
    path = Path(path)
    return any((place / file).is_file() for place in (*_places(path), path))


def recover(path: str | Path) -> None:
    """Finish or undo what a crash in the middle of a save left; for writers only."""
    path = _resolved(path)
    if not path.exists():
        for aside in _temporaries(path.parent, f"{TEMPORARY}old-{path.name}-"):
            if (aside / path.name).exists():
                os.rename(aside / path.name, path)
                break
    for staging in _temporaries(path, _STAGING):
        with contextlib.suppress(OSError), _held(staging):
            if is_whole(staging) and not is_whole(path):
                _refuse_foreign(staging, path, path)
                _merge(staging, path)
            shutil.rmtree(staging, ignore_errors=True)
    for kind in (f"{TEMPORARY}{path.name}-", f"{TEMPORARY}old-{path.name}-"):
        for temporary in _temporaries(path.parent, kind):
            with contextlib.suppress(OSError), _held(temporary):
                shutil.rmtree(temporary, ignore_errors=True)


def _places(path: Path) -> list[Path]:
    """Where a save of `path` may stand, the likeliest first."""
    if not path.is_dir():
        kind = f"{TEMPORARY}old-{path.name}-"
        return [aside / path.name for aside in _temporaries(path.parent, kind)]
    staged = [s for s in _temporaries(path, _STAGING) if (s / MANIFEST).is_file()]
    return [path, *staged] if (path / MANIFEST).is_file() else [*staged, path]


def _first_whole(places: list[Path], must_have_manifest: bool) -> Path:
    """The first of the places that is whole.

    :raises InputError: of the first of them, if none is.
    """
    errors = []
    for place in places:
        try:
            verify_directory(place, must_have_manifest=must_have_manifest)
            return place
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _finish(staging: Path, path: Path, copy_of: str | None) -> None:
    """Add the manifest, give modes and owner as they were or as the user's umask says, sync."""
    write_manifest(staging, copy_of=copy_of)
    like = path if path.is_dir() and staging.parent != path else None
    if like is not None:
        status = os.stat(like)
        os.chmod(staging, status.st_mode & 0o7777)
        with contextlib.suppress(OSError):
            os.chown(staging, status.st_uid, status.st_gid)
    old = path / MANIFEST
    mode = os.stat(old if old.is_file() else staging / MANIFEST).st_mode & 0o777
    for file in sorted(staging.rglob("*")):
        if file.is_file():
            os.chmod(file, mode)  # the safetensors library writes for the owner alone
        sync(file)
    sync(staging)


def _swap(staging: Path, path: Path, keep_old_as: str | None) -> None:
    """Give `staging` the name `path`; an old directory is moved aside first, then removed."""
    if not path.exists():
        os.rename(staging, path)
        sync(path.parent)
        return
    aside = _free_name(path, is_inside=False, kind="old-")
    os.mkdir(aside)
    old = aside / path.name
    try:
        os.rename(path, old)
        os.rename(staging, path)
        sync(path.parent)  # the old one is removed only behind a new one that a power cut leaves
        _carry_over(old, path)
        if keep_old_as is not None:
            kept = path.with_name(keep_old_as)
            if not kept.exists() or _may_be_swapped(kept):
                shutil.rmtree(kept, ignore_errors=True)
                os.rename(old, kept)
    finally:
        # Whatever came between (an error, Ctrl-C), there is a directory of that name.
        if not path.exists():
            os.rename(old, path)
        shutil.rmtree(aside, ignore_errors=True)


def _carry_over(old: Path, path: Path) -> None:
    """Move what somebody wrote into the old directory in the last moment to the new one."""
    if _may_be_swapped(old):
        return
    for name in _foreign(old):
        if not os.path.lexists(path / name):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(old / name, path / name)


def _merge(staging: Path, path: Path) -> None:
    """Put staged files in place one by one, the manifest last; the staged ones stay as they are."""
    new = _staged_files(staging)
    old = listed_files(path) or set()
    for name in sorted(new - {MANIFEST}):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        _place_file(staging, name, path)
    for name in sorted(old - new, reverse=True):
        _remove_file(path, name)
    for folder in {(path / name).parent for name in new}:
        sync(folder)
    _place_file(staging, MANIFEST, path)
    sync(path)


def _staged_files(staging: Path) -> set[str]:
    files = [f for f in staging.rglob("*") if f.is_file() and not f.name.startswith(TEMPORARY)]
    return {file.relative_to(staging).as_posix() for file in files}


def _refuse_foreign(staging: Path, path: Path, given: Path) -> None:
    """Refuse to replace what we did not write.

    :raises InputError: naming the first such file.
    """
    new = _staged_files(staging)
    listed = listed_files(path)
    for name in sorted(new):
        target = path / name
        folders = [path / parent for parent in Path(name).parents if str(parent) != "."]
        blocked = [f for f in folders if f.is_symlink() or (f.exists() and not f.is_dir())]
        if target.is_dir() and not target.is_symlink():
            blocked.append(target)
        elif os.path.lexists(target) and listed is not None and name not in listed:
            # A file of the same content came from a save that a crash cut short.
            if not target.is_file() or sha256(target) != sha256(staging / name):
                blocked.append(target)
        if blocked:
            raise InputError(
                f"{given}: holds a {blocked[0].relative_to(path)} that textgym did not write, and "
                "it replaces nothing of yours: move that away, or give another directory"
            )


def _place_file(staging: Path, name: str, path: Path) -> None:
    """Make a staged file the one of that name in `path`, in one step; it stays staged too."""
    link = staging / f"{TEMPORARY}link"
    link.unlink(missing_ok=True)
    try:
        os.link(staging / name, link)
    except OSError:  # a file system without links
        shutil.copyfile(staging / name, link)
        shutil.copymode(staging / name, link)
        sync(link)
    os.replace(link, path / name)


def _remove_file(path: Path, name: str) -> None:
    """Remove a file of ours, and the folders that it leaves empty; links are not followed."""
    folders = [path / parent for parent in Path(name).parents if str(parent) != "."]
    if any(folder.is_symlink() for folder in folders):
        return
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, NotADirectoryError):
        (path / name).unlink()
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _may_be_swapped(path: Path) -> bool:
    """Whether a directory can be replaced as a whole: it is ours alone, and nobody stands in it."""
    here = Path.cwd()
    if os.path.ismount(path) or not os.access(path.parent, os.W_OK):
        return False
    return not here.is_relative_to(path) and next(_foreign(path), None) is None


def _foreign(path: Path) -> Iterator[str]:
    """The files and folders of a directory that we did not write, by their paths below it."""
    listed = listed_files(path) or set()
    folders = {str(parent) for name in listed for parent in Path(name).parents}
    for root, directories, files in os.walk(path):
        for name in [*directories, *files]:
            entry = (Path(root) / name).relative_to(path)
            is_folder = name in directories and not (path / entry).is_symlink()
            if str(entry) not in (folders if is_folder else listed):
                yield str(entry)
        directories[:] = [
            d for d in directories if str((Path(root) / d).relative_to(path)) in folders
        ]


def _free_name(path: Path, *, is_inside: bool, kind: str = "") -> Path:
    """A name for a temporary directory, inside `path` or beside it."""
    token = secrets.token_hex(4)
    if is_inside:
        return path / f"{_STAGING}{token}"
    return path.with_name(f"{TEMPORARY}{kind}{path.name}-{token}")


def _resolved(path: str | Path) -> Path:
    """Where a path leads, links followed.

    :raises InputError: if a file stands there, or it is no name of a directory at all.
    """
    try:
        resolved = Path(os.path.realpath(path))
        is_other = os.path.lexists(resolved) and not resolved.is_dir()
    except ValueError as error:
        raise InputError(f"{str(path)!r}: no name of a directory ({error})") from None
    if is_other:
        raise InputError(f"{path}: is no directory; give the name of one, or a new name")
    return resolved


def _temporaries(parent: Path, prefix: str) -> list[Path]:
    """Directories that were named with this prefix."""
    pattern = re.compile(re.escape(prefix) + "[a-z0-9_]{8}")
    try:
        return sorted(entry for entry in parent.iterdir() if pattern.fullmatch(entry.name))
    except OSError:
        return []


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Hold a temporary directory, so that no other process takes it for a dead one's.

    :raises BlockingIOError: if another process holds it.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)
