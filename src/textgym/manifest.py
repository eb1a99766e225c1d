"""`manifest.json`: which files of a directory we wrote, and the SHA-256 of each.

Only what it lists is ever replaced or removed, and a file that differs from its sum is damaged. The
manifest holds a sum of itself too, so that damage to it is blamed on it.
"""

import hashlib
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from textgym.errors import InputError
from textgym.storage import json_text, read_small_file, require_regular_file

MANIFEST = "manifest.json"
_MARKS = {"trainer.json": "dict", "reward_model.json": "kind"}  # files of ours, a key of each


def write_manifest(directory: Path, *, copy_of: str | None = None) -> None:
    """Record the SHA-256 of every file of a directory in its `manifest.json`.

    :param copy_of: where the original of these files stands, below the directory.
    """
    own = directory / MANIFEST
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file != own)
    content: dict[str, Any] = {} if copy_of is None else {"copy_of": copy_of}
    content["sha256"] = {file.relative_to(directory).as_posix(): sha256(file) for file in files}
    own.write_text(_text(content), encoding="utf-8")


def read_manifest(directory: Path) -> dict[str, str]:
    """The SHA-256 of each file, by its path below the directory.

    :raises InputError: if the manifest is missing or damaged.
    """
    return _checked(directory / MANIFEST)["sha256"]  # type: ignore[no-any-return]


def original_of(directory: Path) -> str | None:
    """Where the original of a directory's files stands, if they are a copy."""
    try:
        return _checked(directory / MANIFEST).get("copy_of")
    except InputError:
        return None


def verify_directory(path: str | Path, *, must_have_manifest: bool = False) -> None:
    """Compare a directory with its manifest.

    :param must_have_manifest: False for what another project may have written.
    :raises InputError: naming the first file that is missing or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such checkpoint directory")
    if not os.path.lexists(path / MANIFEST):
        if must_have_manifest:
            raise InputError(
                f"{path / MANIFEST}: missing, though textgym writes one beside such files; take "
                "another checkpoint"
            )
        return
    for name, expected in read_manifest(path).items():
        file = path / name
        if not os.path.lexists(file):
            raise InputError(f"{file}: missing from the checkpoint; take another checkpoint")
        if sha256(require_regular_file(file)) != expected:
            raise InputError(f"{file}: damaged (SHA-256 differs); take another checkpoint")


def is_whole(path: Path) -> bool:
    """Whether a directory has a manifest, and all files are as it says."""
    try:
        verify_directory(path, must_have_manifest=True)
    except InputError:
        return False
    return True


def listed_files(directory: Path) -> set[str] | None:
    """The files of a directory that we wrote, by their paths below it; the manifest is one.

    :return: None where there is a manifest of ours that is too damaged to tell.
    """
    try:
        sums = read_manifest(directory)
    except InputError:
        return None if _was_ours(directory) else set()
    names = set(sums)
    return names | {str(PurePosixPath(name).parent / MANIFEST) for name in names} | {MANIFEST}


def fingerprint(directory: Path) -> list[tuple[object, ...]]:
    """What changes when another save replaces a file of the directory (names, sizes, times)."""
    names = {MANIFEST, *(listed_files(directory) or ())}
    if len(names) == 1 and directory.is_dir():
        names |= {entry.name for entry in directory.iterdir()}
    found: list[tuple[object, ...]] = []
    for name in sorted(names):
        try:
            status = os.stat(directory / name)
        except OSError:
            continue
        found.append((name, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    return found


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits.

    :raises InputError: if it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _was_ours(directory: Path) -> bool:
    """Whether a manifest that cannot be read was ours rather than another program's."""
    if not os.path.lexists(directory / MANIFEST):
        # We write one beside every such file: somebody deleted it.
        return any(_is_ours(directory / name, key) for name, key in _MARKS.items())
    try:
        content = json.loads(read_small_file(directory / MANIFEST))
    except (ValueError, RecursionError):
        return True  # a damaged one is no JSON any more
    return isinstance(content, dict) and "sha256" in content


def _is_ours(file: Path, key: str) -> bool:
    """Whether a file of a name that we use has what we write in it, too."""
    try:
        content = json.loads(read_small_file(file))
    except (ValueError, RecursionError):  # or an InputError: there is none
        return False
    return isinstance(content, dict) and key in content


def _text(content: dict[str, Any]) -> str:
    """The manifest as it is written: with the sum of its own content as its last entry."""
    own = hashlib.sha256(json_text(content).encode("utf-8")).hexdigest()
    return json_text({**content, "manifest": own}, indent=2) + "\n"


def _checked(path: Path) -> dict[str, Any]:
    """The content of a manifest without its own sum (which those of version 0.1 lack)."""
    try:
        text = read_small_file(path)
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(content, dict) or not content.keys() <= {"sha256", "copy_of", "manifest"}:
        raise _damaged(path)
    if content.pop("manifest", None) is not None or "copy_of" in content:
        if text != _text(content):
            raise _damaged(path)
    sums = content.get("sha256")
    if not isinstance(sums, dict) or not all(_is_sum(name, sums[name]) for name in sums):
        raise _damaged(path)
    if not isinstance(content.get("copy_of", ""), str):
        raise _damaged(path)
    return content


def _is_sum(name: str, value: object) -> bool:
    """Whether an entry names a file below the directory, by its shortest path, and its sum."""
    path = PurePosixPath(name)
    is_inside = not path.is_absolute() and ".." not in path.parts and "\0" not in name
    is_shortest = str(path) == name and name not in (".", "", MANIFEST)
    return is_inside and is_shortest and isinstance(value, str) and len(value) == 64


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path}: damaged (it is no table of SHA-256 sums, or not as it was written); take another "
        "checkpoint"
    )
