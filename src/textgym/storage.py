"""Writing that survives a crash: temporary name, fsync, rename; and one writer per directory."""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textgym.errors import InputError, StorageError

MANIFEST = "manifest.json"
_TEMPORARY = ".tmp-"


@contextlib.contextmanager
def atomic_directory(path: str | Path) -> Iterator[Path]:
    """Fill a temporary directory; it takes the name `path` only when all of it is on the disk.

    A directory of that name is replaced as a whole; after a crash either the old or the new one
    stands there. A manifest with the SHA-256 of every file is added.

    :raises StorageError: if the disk is full or the place cannot be written.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        recover(path)
        _remove_dead_temporaries(path)
        temporary = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{path.name}-", dir=path.parent))
        yield temporary
        os.chmod(temporary, 0o755)
        write_manifest(temporary)
        for file in sorted(temporary.rglob("*")):
            if file.is_file():
                os.chmod(file, 0o644)  # the safetensors library writes for the owner alone
            _fsync(file)
        _fsync(temporary)
        _replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise _cannot_write(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text_atomically(path: str | Path, text: str) -> None:
    """Replace a text file (UTF-8) in one step.

    :raises StorageError: if it cannot be written; the old file is then as it was.
    """
    path = Path(path)
    temporary = path.with_name(f"{_TEMPORARY}{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _fsync(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # an error on the way here must not be hidden
            temporary.unlink(missing_ok=True)


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_text_atomically(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    :raises InputError: naming the file, if it is missing or damaged.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def write_manifest(directory: Path) -> None:
    """Record the SHA-256 of every file of a directory in its `manifest.json`."""
    files = sorted(f for f in directory.rglob("*") if f.is_file() and f.name != MANIFEST)
    sums = {f.relative_to(directory).as_posix(): _sha256(f) for f in files}
    (directory / MANIFEST).write_text(json.dumps({"sha256": sums}, indent=2) + "\n", "utf-8")


def verify_directory(path: str | Path) -> None:
    """Compare a directory with its manifest; one without (another project's) passes.

    :raises InputError: naming the first file that is missing or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such checkpoint directory")
    if not (path / MANIFEST).is_file():
        return
    content = read_json(path / MANIFEST)
    sums = content.get("sha256") if isinstance(content, dict) else None
    if not isinstance(sums, dict):
        raise InputError(f"{path / MANIFEST}: damaged, expected a table of SHA-256 sums")
    for name, expected in sums.items():
        file = path / name
        if not file.is_file():
            raise InputError(f"{file}: missing from the checkpoint; take another checkpoint")
        if _sha256(file) != expected:
            raise InputError(f"{file}: damaged (SHA-256 differs); take another checkpoint")


@contextlib.contextmanager
def run_lock(directory: str | Path) -> Iterator[Path]:
    """Hold a run directory for one writer; the lock goes with the process, even a killed one.

    :raises StorageError: if another process writes there.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = open(directory / ".lock", "w", encoding="utf-8")
    except OSError as error:
        raise _cannot_write(directory, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StorageError(
                f"{directory}: in use by another process; choose another --out or wait for it"
            ) from None
        yield directory


def recover(path: str | Path) -> None:
    """Put back the directory that a crash between two renames left aside, if there is one."""
    path = Path(path)
    if path.exists():
        return
    for aside in _temporaries(path, "old-"):
        if (aside / path.name).exists():
            os.rename(aside / path.name, path)
            return


def _replace(temporary: Path, path: Path) -> None:
    """Give `temporary` the name `path`; an old directory is moved aside first, then removed."""
    if not path.exists():
        os.rename(temporary, path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}old-{path.name}-", dir=path.parent))
    try:
        os.rename(path, aside / path.name)
        os.rename(temporary, path)
    finally:
        # Whatever came between (an error, Ctrl-C), the old one is removed only behind a new one.
        if not path.exists():
            os.rename(aside / path.name, path)
        shutil.rmtree(aside, ignore_errors=True)


def _remove_dead_temporaries(path: Path) -> None:
    """Remove what a crash in the middle of writing `path` left behind."""
    for temporary in [*_temporaries(path, ""), *_temporaries(path, "old-")]:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporaries(path: Path, kind: str) -> list[Path]:
    """Directories that `mkdtemp` made for exactly this path."""
    pattern = re.compile(re.escape(f"{_TEMPORARY}{kind}{path.name}-") + "[a-z0-9_]{8}")
    if not path.parent.is_dir():
        return []
    return [entry for entry in path.parent.iterdir() if pattern.fullmatch(entry.name)]


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cannot_write(path: Path, error: OSError) -> StorageError:
    reason = error.strerror or str(error)
    return StorageError(f"{path}: cannot be written ({reason}); what stood there is untouched")
