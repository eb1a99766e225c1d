"""Answers that were paid for once: in memory, and in a file that a crash does not spoil.

The file has one JSON object a line and only grows, until it holds too many: then the newest half
stays. Several processes may share it: each reads what the others added before it adds something
itself, so that no answer stands there twice.
"""

import contextlib
import fcntl
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from textgym.errors import InputError, StorageError
from textgym.json_lines import append_line
from textgym.paths import absolute
from textgym.storage import cannot_write, json_text, require_regular_file, write_text_atomically


class Reply(NamedTuple):
    """What a model answered, and the tokens that it read and wrote for it (0: not told)."""

    text: str
    tokens_in: int = 0
    tokens_out: int = 0


class ResponseCache:
    """Replies by key.

    :param path: the file; None keeps them in memory alone. Beside it lies `<name>.lock`.
    :param most: replies that are kept, the newest.
    :raises InputError: if the path is something else than a file of such lines.
    :raises StorageError: if it cannot be written.
    """

    def __init__(self, path: str | Path | None = None, *, most: int = 100_000) -> None:
        if most < 2:
            raise InputError(f"a cache keeps at least 2 replies, got {most}")
        self.path, self.most = None if path is None else absolute(path), most
        self._replies: dict[str, Reply] = {}
        self._file, self._read, self._lines, self._damaged = 0, 0, 0, 0
        self._has_warned = False
        if self.path is not None:
            if self.path.exists():
                require_regular_file(self.path)
            with self._locked(self.path):
                self._catch_up(self.path)
            if self._damaged and not self._replies:
                raise InputError(
                    f"{self.path}: no line of it is a cached reply: choose another cache"
                )
            if self._damaged:
                warnings.warn(f"{self.path}: {self._damaged} damaged lines left out", stacklevel=2)

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, key: str) -> Reply | None:
        """The reply of a key, or None."""
        return self._replies.get(key)

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; the one that stands in the file already stays there.

        A file that cannot be written any more is a warning: the reply is good, and in memory.
        """
        if self.path is not None:
            try:
                with self._locked(self.path):
                    self._catch_up(self.path)
                    if key not in self._replies:
                        append_line(self.path, json_text({"key": key, **reply._asdict()}))
                        self._catch_up(self.path)
                    self._shrink(self.path)
            except (StorageError, OSError) as error:
                if not self._has_warned:
                    warnings.warn(f"{error}: replies are kept in memory alone", stacklevel=2)
                self._has_warned = True
        if key not in self._replies:
            self._keep(key, reply)

    def _keep(self, key: str, reply: Reply) -> None:
        self._replies[key] = reply
        while len(self._replies) > self.most:
            del self._replies[next(iter(self._replies))]

    @contextlib.contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        """Alone with the file, which is replaced where it is cut, so that its lock is another."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path.with_name(f"{path.name}.lock"), "a", encoding="utf-8")
        except OSError as error:
            raise cannot_write(path, error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _catch_up(self, path: Path) -> None:
        """Read the whole lines that were added since; all, where the file was replaced."""
        try:
            with open(path, "rb") as file:
                number = path.stat().st_ino
                if number != self._file or path.stat().st_size < self._read:
                    self._file, self._read, self._lines = number, 0, 0
                file.seek(self._read)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # torn: who writes next mends it
                    self._read += len(line)
                    self._lines += 1
                    entry = _entry(line)
                    if entry is None:
                        self._damaged += 1
                    else:
                        self._keep(*entry)
        except FileNotFoundError:
            self._file, self._read, self._lines = 0, 0, 0

    def _shrink(self, path: Path) -> None:
        """The newest half, once there are too many lines."""
        if self._lines <= self.most:
            return
        newest = list(self._replies.items())[-(self.most // 2) :]
        rows = [json_text({"key": key, **reply._asdict()}) + "\n" for key, reply in newest]
        write_text_atomically(path, "".join(rows))
        self._replies.clear()
        self._catch_up(path)


def _entry(line: bytes) -> tuple[str, Reply] | None:
    """Key and reply of a line, or None."""
    try:
        row = json.loads(line)
        key, text = row["key"], row["text"]
        counts = int(row.get("tokens_in", 0)), int(row.get("tokens_out", 0))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return (key, Reply(text, *counts)) if isinstance(key, str) and isinstance(text, str) else None
