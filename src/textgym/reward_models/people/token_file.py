"""The secret beside a store: who has it may ask people and read what they answered."""

import os
import secrets
from pathlib import Path

from textgym.errors import InputError, StorageError
from textgym.storage import read_small_file

TOKEN_VARIABLE = "TEXTGYM_LABEL_TOKEN"  # for a process on another machine


def token_path(store: Path) -> Path:
    """Where the token of a store is kept."""
    return store.with_name(store.name + ".token")


def read_token(store: Path) -> str:
    """The token of a store.

    :raises InputError: without one, for a file that others can read, or that holds no token.
    """
    path = token_path(store)
    token = read_small_file(path).strip()
    if path.stat().st_mode & 0o077:
        raise InputError(f"{path}: others can read it: chmod 600 it, or make one with --new-token")
    if len(token) < 40 or not token.isascii():
        raise InputError(f"{path}: holds no token: make one with --new-token")
    return token


def read_or_make_token(store: Path, *, is_new: bool = False) -> str:
    """The token of a store, in a file that its owner alone can read; made if missing.

    :param is_new: make another one, which ends every session.
    :raises InputError: as `read_token`.
    :raises StorageError: if it cannot be written.
    """
    path = token_path(store)
    if path.exists() and not is_new:
        return read_token(store)
    token = secrets.token_urlsafe(32)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(token + "\n")
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror})") from None
    return token
