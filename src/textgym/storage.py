"""Writing that survives a crash: temporary name, fsync, rename; and one writer per directory."""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from textgym.errors import InputError, StorageError

MANIFEST = "manifest.json"
LOCK = ".lock"
_TEMPORARY = ".tmp-"
_LINE_ENDS = "\x7f\x85\u2028\u2029"  # what some readers split lines at, though JSON allows it
_SURROGATES = re.compile("[\ud800-\udfff]")


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
    write_text_atomically(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None) -> str:
    """A value as strict JSON in one line, or indented; every record of the package is written so.

    Numbers that are not finite become null, tuples, arrays and tensors lists. No character in it
    ends a line but those of the indentation, and UTF-8 can hold it.

    :raises TypeError: for what JSON cannot hold.
    """
    text = json.dumps(_strict(value), indent=indent, ensure_ascii=False, allow_nan=False)
    for character in _LINE_ENDS:
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _SURROGATES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _strict(value: Any) -> Any:
    """A value in JSON's own types, with None for numbers that are not finite."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_key(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's and torch's
        return _strict(value.tolist())
    return value


def _key(key: Any) -> Any:
    """A key of a table: as it is, a number of numpy's as a plain one."""
    return key.tolist() if hasattr(key, "tolist") else key


def require_regular_file(path: str | Path) -> Path:
    """The path itself, if a regular file stands there (a link to one counts).

    Opening a FIFO waits for ever, and a device may have no end: nothing of the kind is opened.

    :raises InputError: if there is none, or something else, saying what.
    """
    path = Path(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read ({reason})") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise InputError(f"{path}: expected a regular file, found {kind}")
    return path


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    :raises InputError: naming the file, if it is missing or damaged.
    """
    path = require_regular_file(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def write_manifest(directory: Path) -> None:
    """Record the SHA-256 of every file of a directory in its `manifest.json`."""
    files = sorted(f for f in directory.rglob("*") if f.is_file() and f.name != MANIFEST)
    sums = {f.relative_to(directory).as_posix(): _sha256(f) for f in files}
    (directory / MANIFEST).write_text(json_text({"sha256": sums}, indent=2) + "\n", "utf-8")


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

    Its file `.lock` goes too, unless the process is killed.

    :raises StorageError: if another process writes there.
    """
    directory, owner = Path(directory), os.getpid()
    with _locked(directory):
        try:
            yield directory
        finally:
            if os.getpid() == owner:  # and not a fork of it
                with contextlib.suppress(OSError):
                    (directory / LOCK).unlink()


def _locked(directory: Path) -> IO[str]:
    """The open lock file of a directory, locked."""
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = open(directory / LOCK, "w", encoding="utf-8")
        except OSError as error:
            raise _cannot_write(directory, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise StorageError(
                f"{directory}: in use by another process; choose another --out or wait for it"
            ) from None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(directory / LOCK)):
                return file
        file.close()  # whoever held it removed it just now: this is a lock on nothing


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
