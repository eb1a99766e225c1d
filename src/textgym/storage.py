"""Single files: strict JSON, writing that survives a crash, and one writer per run directory."""

import contextlib
import fcntl
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from textgym.errors import InputError, StorageError

LOCK = ".lock"
TEMPORARY = ".tmp-"
MAX_BYTES = 2**28
_LINE_ENDS = "\x7f\x85\u2028\u2029"  # what some readers split lines at, though JSON allows it
_SURROGATES = re.compile("[\ud800-\udfff]")


def write_text_atomically(path: str | Path, text: str) -> None:
    """Replace a text file (UTF-8) in one step.

    :raises StorageError: if it cannot be written; the old file is then as it was.
    """
    path = Path(path)
    path = path.resolve() if path.is_symlink() else path  # a link stays one
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # an error on the way here must not be hidden
            temporary.unlink(missing_ok=True)


def write_json_atomically(path: str | Path, value: Any) -> None:
    """Replace a JSON file in one step."""
    write_text_atomically(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """A value as strict JSON in one line, or indented; every record of the package is written so.

    Numbers that are not finite become null, tuples, arrays and tensors lists. No character in it
    ends a line but those of the indentation, and UTF-8 can hold it.

    :raises TypeError: for what JSON cannot hold.
    """
    text = json.dumps(
        _strict(value), indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False
    )
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
    text = read_small_file(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def read_small_file(path: str | Path) -> str:
    """The text of a file that is read as a whole (UTF-8, at most 256 MiB).

    :raises InputError: naming the file, if it is missing, longer, or no text.
    """
    path = require_regular_file(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: has {size:,} bytes, at most {MAX_BYTES:,} are read")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


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


def is_in_use(directory: str | Path) -> bool:
    """Whether a process writes in a run directory now; nothing is written to find out."""
    try:
        with open(Path(directory) / LOCK, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _locked(directory: Path) -> IO[str]:
    """The open lock file of a directory, locked."""
    while True:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            file = open(directory / LOCK, "w", encoding="utf-8")
        except OSError as error:
            raise cannot_write(directory, error) from error
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


def sync(path: Path) -> None:
    """Wait until a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cannot_write(path: Path, error: OSError) -> StorageError:
    """The error for a place that cannot be written."""
    reason = error.strerror or str(error)
    return StorageError(f"{path}: cannot be written ({reason}); what stood there is untouched")
