"""Models of the Hugging Face hub by their names ("org/name"), through `huggingface_hub`'s cache.

A name that stands in the cache costs no network at all, and stays what it was when it was first
downloaded. Only safetensors, JSON and chat templates are taken, never pickles or code.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.extras import import_extra

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TAKEN = ["*.safetensors", "*.json", "*.jinja"]
_LEFT = ["*/*.safetensors", "onnx/*", "original/*"]
_ADAPTER = ("config.json", "model.safetensors")
_INDEX = "model.safetensors.index.json"


def is_hub_name(name: object) -> bool:
    """Whether a text can only be a name on the hub.

    Nothing stands at that path, and no folder is called as its first part: "runs/none" in a folder
    with `runs` is a slip, and nobody else's business.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.endswith(".gguf"):
        return False
    return not os.path.lexists(name) and not os.path.isdir(name.partition("/")[0])


def cached_hub_directory(name: str) -> Path | None:
    """Where a model of the hub stands in the cache, whole; None if it does not, without a word."""
    try:
        hub: Any = import_extra("huggingface_hub", extra="transformers", what="the hub")
        place = Path(hub.snapshot_download(name, local_files_only=True))
    except Exception:  # not installed, not there, or no name at all
        return None
    return place if _is_whole(place) else None


def hub_directory(name: str) -> Path:
    """The directory of a model of the hub: from the cache, or else downloaded into it.

    :raises InputError: in one line, if the library is not installed, there is no network, or no
        such model.
    """
    cached = cached_hub_directory(name)
    if cached is not None:
        return cached
    try:
        what = f"{name} of the hub"
        hub: Any = import_extra("huggingface_hub", extra="transformers", what=what)
        errors: Any = import_extra("huggingface_hub.errors", extra="transformers", what=what)
    except InputError as error:
        raise InputError(f"{name}: no such directory here; {error}") from None
    try:
        place = Path(hub.snapshot_download(name, allow_patterns=_TAKEN, ignore_patterns=_LEFT))
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise InputError(
            f"{name}: no such directory here, and no such model on the Hugging Face hub that can "
            "be read without logging in (hf auth login)"
        ) from None
    except Exception as error:  # whatever is between here and there
        reason = " ".join(str(error).split())
        raise InputError(
            f"{name}: no such directory here, and the Hugging Face hub cannot be reached "
            f"({reason:.160}): expected a checkpoint or run directory, a GGUF file, 'start', or "
            "the name of a model on the hub"
        ) from None
    if not _is_whole(place):
        raise InputError(
            f"{place}: not the whole of {name}, config.json and all weights as safetensors are "
            "expected: either the hub has no such files, or a download was interrupted and there "
            "is no network to go on"
        )
    return place


def _is_whole(place: Path) -> bool:
    """Whether configuration and weights are there: a download may have been interrupted."""
    if not (place / "config.json").is_file():  # an adapter names another model
        return all((place / f"adapter_{end}").is_file() for end in _ADAPTER)
    if not (place / _INDEX).is_file():
        return (place / "model.safetensors").is_file()
    try:
        index = json.loads((place / _INDEX).read_text(encoding="utf-8"))
        shards = set(index["weight_map"].values())
    except (ValueError, LookupError, TypeError, AttributeError):
        return True  # it is there, and whoever opens it says what is wrong with it
    return all((place / str(shard)).is_file() for shard in shards)
