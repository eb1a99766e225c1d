"""Paths as users write them: "~" is their home, and a place once named stays that place."""

import os
import warnings
from pathlib import Path

from textgym.errors import InputError
from textgym.hub_models import hub_directory, is_hub_name

# The bundled language models, wherever a policy or a tokenizer is named: English reviews, and
# Chinese quatrains.
START, CHINESE_START = "start", "chinese-start"
# Those that `textgym fetch` puts into the user's cache.
FETCHED = ("smollm2",)


def model_directory(name: str | os.PathLike[str]) -> Path:
    """The directory of a language model that a name means, or the GGUF file.

    `START` and `CHINESE_START` are bundled, `FETCHED` stand in the user's cache, and "org/name" is
    a model of the Hugging Face hub, which is downloaded once. A directory that is called so itself
    is "./start", or a `Path`.

    :raises InputError: for a model that nobody has fetched yet or the hub has not, or no path.
    """
    if is_hub_name(name):
        return hub_directory(str(name))
    if name not in (START, CHINESE_START, *FETCHED):
        return expand(name)
    if os.path.isdir(name):
        warnings.warn(
            f"'{name}' is a model that textgym knows: for the directory here write './{name}'",
            stacklevel=2,
        )
    if name not in FETCHED:
        return start_model_directory(str(name))
    place = fetched_model_directory(str(name))
    if not (place / "config.json").is_file():
        raise InputError(f"the model {name!r} is not here yet; run: textgym fetch {name}")
    return place


def start_model_directory(name: str = START) -> Path:
    """Where a bundled language model is (its README is the card)."""
    return Path(__file__).parent / "policies" / name.replace("-", "_")


def fetched_model_directory(name: str) -> Path:
    """Where a fetched model is, or will be: below `XDG_CACHE_HOME`, or ~/.cache."""
    told = os.environ.get("XDG_CACHE_HOME", "")
    cache = Path(told) if os.path.isabs(told) else Path("~/.cache").expanduser()
    return cache / "textgym" / "models" / name


def expand(path: str | os.PathLike[str]) -> Path:
    """A path with "~" or "~user" at its beginning replaced by the home directory.

    A shell does so for `--out runs`, but not for `--out=~/runs`, and Python never does. As in a
    shell, a name that is no user's stays as it is.

    :raises InputError: for what no file system takes as a name.
    """
    check_path(path)
    return Path(os.path.expanduser(path))


def absolute(path: str | os.PathLike[str]) -> Path:
    """As `expand`, and independent of the current folder from now on (links are not followed)."""
    return Path(os.path.abspath(expand(path)))


def is_directory(name: str | os.PathLike[str]) -> bool:
    """Whether a directory is called so; a name that cannot be a path is none."""
    return bool(os.fspath(name)) and os.path.isdir(os.path.expanduser(name))


def check_path(path: str | os.PathLike[str], *, label: str = "a path") -> None:
    """Raises unless a file system can take it as a name.

    :raises InputError: naming it: no path at all, empty, with a NUL, or too long.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"{label} must be a text or a Path, got {type(path).__name__}")
    text = os.fspath(path)
    if not text.strip():
        raise InputError(f"{label} must not be empty, got {text!r}")
    try:
        parts = os.fsencode(text).split(b"/")
    except UnicodeEncodeError:
        raise InputError(f"{label} must consist of whole characters, got {text!r:.60}") from None
    if "\0" in text:
        raise InputError(f"{label} must not hold a NUL, got {text!r:.60}")
    if max(map(len, parts)) > 255 or len(os.fsencode(text)) > 4000:
        raise InputError(f"{label} must have at most 4,000 bytes, 255 in a part, got {text!r:.60}")
