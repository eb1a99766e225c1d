"""Records of one JSON object a line, which a crash in the middle of a line does not spoil."""

import json
import math
import os
import warnings
from pathlib import Path
from typing import IO, Any

from textgym.errors import InputError, StorageError
from textgym.paths import expand
from textgym.storage import require_regular_file, write_text_atomically


def append_line(path: Path, text: str, *, sync: bool = False) -> None:
    """Append a line to a file of records; what a crash left of a line before it goes.

    :param sync: wait until it is on the disk.
    :raises StorageError: if it cannot be written.
    """
    try:
        with open(path, "a+b") as file:
            _end_last_line(file)
            file.write(text.encode("utf-8") + b"\n")
            if sync:
                file.flush()
                os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from error


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """The objects of a file of records; lines that are torn are left out, with a warning.

    :raises InputError: if there is no such file.
    """
    path = expand(path)
    try:
        lines = require_regular_file(path).read_bytes().splitlines()
    except (OSError, InputError) as error:
        raise InputError(f"{path}: no such record of a run ({error})") from None
    rows = [row for line in lines if (row := _object(line)) is not None]
    torn = sum(bool(line.strip()) for line in lines) - len(rows)
    if torn:
        warnings.warn(f"{path}: {torn} torn line(s) left out", stacklevel=2)
    return rows


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """The rows of a record of figures; those that are null are left out.

    :raises InputError: if there is no such file.
    """
    rows = read_rows(path)
    return [{key: value for key, value in row.items() if value is not None} for row in rows]


def last_row(path: Path) -> dict[str, Any] | None:
    """The last whole object of a file of records, if there is one."""
    if not path.is_file():
        return None
    lines = path.read_bytes().splitlines()
    return next((row for line in reversed(lines) if (row := _object(line)) is not None), None)


def cut_rows(path: Path, last_step: int) -> None:
    """Take out of a file of records the rows whose "step" is past one, and lines that are torn.

    Nothing is written where there are none, or no such file.

    :raises StorageError: if the file cannot be written.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError:
        return
    kept = []
    for line in lines:
        step = (_object(line) or {"step": math.inf}).get("step")
        if not (isinstance(step, int | float) and step > last_step):
            kept.append(line)
    if len(kept) < len(lines):
        write_text_atomically(path, b"".join(kept).decode("utf-8", "surrogateescape"))


def _end_last_line(file: IO[bytes]) -> None:
    """Make a file end with a whole line: one that lacks its end only gets it, a torn one goes."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return
    start = _start_of_last_line(file, size)
    file.seek(start)
    if _object(file.read()) is None:
        file.truncate(start)
    else:
        file.write(b"\n")


def _start_of_last_line(file: IO[bytes], size: int, block: int = 2**16) -> int:
    end = size
    while end:
        begin = max(0, end - block)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
