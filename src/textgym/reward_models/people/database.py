"""The SQLite file of a store: opened safely, locked for one writer, its errors in plain words.

Answers are worth more than speed: every commit waits until the disk has it (journal mode DELETE,
synchronous EXTRA: some 20 ms). No write-ahead log, which SQLite before 3.51.3 can corrupt when two
connections write.
"""

import contextlib
import fcntl
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from textgym.errors import InputError, StorageError
from textgym.reward_models.people.schema import APPLICATION_ID, TABLES, VERSION
from textgym.storage import require_regular_file

MAGIC = b"SQLite format 3\x00"
BUSY_SECONDS = 5.0  # to wait for another program that has the file


class StoreInUse(StorageError):
    """Another process writes the store."""


class Database:
    """One connection to the file of a store; safe to use from several threads.

    :param path: of the file; made if missing, unless `is_read_only`.
    :param is_read_only: look at a store that somebody else may be writing.
    :param wait: seconds to wait for another writer to finish.
    :raises StoreInUse: if another process writes it.
    :raises InputError: for a file that is no store, or a store of a newer version.
    :raises StorageError: for what cannot be opened or written.
    """

    def __init__(self, path: str | Path, *, is_read_only: bool = False, wait: float = 0.0) -> None:
        self.path = Path(path)
        self._mutex = threading.RLock()
        self._lock: IO[str] | None = None
        if self.path.exists() or is_read_only:
            _require_sqlite(self.path)
        if not is_read_only:
            self._lock = _locked(self.path, wait)
        try:
            self._connection = self._connect(is_read_only)
        except StorageError as error:
            self._release()
            if not (is_read_only and _awaits_rollback(error)):
                raise
            Database(self.path, wait=wait).close()
            self._connection = self._connect(is_read_only)
        except BaseException:
            self._release()
            raise

    def _connect(self, is_read_only: bool) -> sqlite3.Connection:
        mode = "ro" if is_read_only else "rwc"
        with self._plain_errors():
            connection = sqlite3.connect(
                f"file:{quote(str(self.path.absolute()))}?mode={mode}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=BUSY_SECONDS,
            )
            connection.row_factory = sqlite3.Row
            try:
                self._prepare(connection, is_read_only)
            except BaseException:
                connection.close()
                raise
        return connection

    def _prepare(self, connection: sqlite3.Connection, is_read_only: bool) -> None:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and application != APPLICATION_ID:
            raise InputError(f"{self.path}: an SQLite file, but no store of labels: choose another")
        if version > VERSION:
            raise InputError(
                f"{self.path}: a store of version {version}, this textgym knows {VERSION}: "
                "install a newer textgym; the file is as it was"
            )
        connection.execute("PRAGMA foreign_keys = ON")
        if is_read_only:
            if not tables:
                raise InputError(f"{self.path}: an empty file, no store of labels")
            return
        connection.execute("PRAGMA synchronous = EXTRA")
        journal = connection.execute("PRAGMA journal_mode = DELETE").fetchone()[0]
        if journal != "delete":
            raise StorageError(f"{self.path}: journal mode is {journal}, and DELETE was refused")
        if not tables:
            connection.executescript(
                f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID};"
                f" PRAGMA user_version = {VERSION}; COMMIT;"
            )
        else:  # finds out now, not at the first answer, that nothing can be written
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: when the block is left, all of it is on the disk, or nothing.

        :raises StorageError: if it could not be written; the store is as it was before.
        """
        with self._mutex, self._plain_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._connection.execute("ROLLBACK")
                raise

    def rows(self, query: str, values: Any = ()) -> list[sqlite3.Row]:
        """The rows of a query."""
        with self._mutex, self._plain_errors():
            return self._connection.execute(query, values).fetchall()

    def close(self) -> None:
        """Close the file and let others write."""
        with self._mutex:
            self._connection.close()
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextlib.contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.OperationalError as error:
            raise StorageError(f"{self.path}: {_plain(error)}; what was saved is kept") from error
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.IntegrityError):
                raise
            raise InputError(f"{self.path}: a damaged SQLite file ({error})") from error


def _awaits_rollback(error: StorageError) -> bool:
    """Whether a writer was killed in a transaction: only another writer can take its part back."""
    name = getattr(error.__cause__, "sqlite_errorname", "") or ""
    return name in ("SQLITE_READONLY_ROLLBACK", "SQLITE_CANTOPEN", "SQLITE_READONLY_CANTLOCK")


def _plain(error: sqlite3.OperationalError) -> str:
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith("SQLITE_FULL"):
        return "cannot be written: the disk is full"
    if code.startswith("SQLITE_IOERR"):
        return f"cannot be written: {error} (is the disk full?)"
    if code.startswith("SQLITE_READONLY"):
        return "cannot be written: it is read-only"
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return "locked by another program: close it and try again"
    if code.startswith("SQLITE_CANTOPEN"):
        return "cannot be opened or made: check the folder and its permissions"
    return f"cannot be used: {error}"


def _require_sqlite(path: Path) -> None:
    """:raises InputError: unless it is an SQLite file, or an empty one."""
    require_regular_file(path)
    try:
        with open(path, "rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if head and head != MAGIC:
        raise InputError(f"{path}: not an SQLite file, so no store of labels: choose another")


def lock_path(path: Path) -> Path:
    """The file whose lock the writer of a store holds; it goes with the process, even a killed one.

    Not the store itself: closing any handle of a file drops the locks that SQLite has on it.
    """
    return path.with_name(path.name + ".lock")


def _locked(path: Path, wait: float) -> IO[str]:
    try:
        file = open(lock_path(path), "a", encoding="utf-8")
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{path}: cannot be written ({reason}): check the folder") from None
    end = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            if time.monotonic() >= end:
                file.close()
                raise StoreInUse(
                    f"{path}: another process writes it; end that one, or reach its server by URL"
                ) from None
            time.sleep(0.02)
