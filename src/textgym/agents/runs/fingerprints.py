"""What a run was made from: its inputs' hashes, the versions and threads that computed it.

Neither names nor times of files count, only what is in them: a corpus that was copied is the same,
one with another line is not.
"""

import hashlib
import importlib.util
import os
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from textgym.hub_models import cached_hub_directory, is_hub_name
from textgym.manifest import MANIFEST
from textgym.paths import expand, model_directory
from textgym.registry import tasks
from textgym.run_files import BEST, CHECKPOINTS, LAST

LIBRARIES = (
    "textgym",
    "torch",
    "numpy",
    "stable-baselines3",
    "sb3-contrib",
    "gymnasium",
    "tokenizers",
)
NOTHING = "nothing there"
Inputs = Mapping[str, Any]  # a name → a path, a list of paths, or None


def computed_with() -> dict[str, Any]:
    """Versions of Python and the libraries, the processor and torch's threads: they decide bits."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        **versions,
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "graphics card": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": torch.get_num_threads(),
    }


def computed_otherwise(then: Mapping[str, Any]) -> list[str]:
    """What of `computed_with()` is not as it was, in words.

    :param then: what it gave; what it did not hold then counts as the same.
    """
    return [
        f"{name} was {then[name]!s:.40}, is {now}"
        for name, now in computed_with().items()
        if name in then and then[name] != now
    ]


def fingerprint(path: str | Path) -> str:
    """The SHA-256 of a file's content, or of all that a directory holds.

    A checkpoint directory is known by its manifest, a run directory by its checkpoint. What is no
    regular file (a FIFO can be read only once) is not looked into.
    """
    if is_hub_name(path):
        path = cached_hub_directory(str(path)) or expand(path)
    path = model_directory(path)
    if path.is_dir():
        return _of_directory(path)
    return _sha256(path) if path.is_file() else NOTHING


def fingerprints(inputs: Inputs) -> dict[str, dict[str, str]]:
    """`{name: {path: fingerprint}}` of the inputs that are paths."""
    found: dict[str, dict[str, str]] = {}
    for name, value in inputs.items():
        paths = value if isinstance(value, list | tuple) else [value]
        paths = [path for path in paths if isinstance(path, str | Path)]
        if paths:
            found[name] = {str(path): fingerprint(path) for path in paths}
    return found


def inputs_of_agent(
    env: str,
    reward: object,
    keywords: Mapping[str, Any],
    prompts: object,
    shadow: Iterable[object] = (),
) -> dict[str, list[str]]:
    """The files and checkpoints behind the settings of an agent, by setting.

    :param keywords: further settings, which may name files or hold names of them.
    :param prompts: the task's, which may be a path.
    :param shadow: reward models that look on.
    """
    name = env.rpartition(":")[2]
    fields = tasks.resolve(name) if name in tasks else None
    if reward is None and isinstance(fields, Mapping):
        reward = fields.get("reward")
    settings = {"env": env, "prompts": prompts, **keywords, "reward": reward}
    found = {name: paths_in(value) for name, value in settings.items()}
    found["shadow"] = [path for spec in shadow for path in paths_in(spec)]
    return {name: paths for name, paths in found.items() if paths}


def paths_in(value: object) -> list[str]:
    """The paths in a setting: itself, "module:attribute"'s file, those after "name,key=…"."""
    if not isinstance(value, str | Path):
        return []
    text = str(value)
    if _is_input(text):
        return [text]
    name, *arguments = text.split(",")
    code = code_of(name)
    paths = [] if code is None else [str(code)]
    return paths + [part for a in arguments if _is_input(part := a.partition("=")[2])]


def _is_input(path: str) -> bool:
    """Whether it names a file, or a directory of a model; a word may be a folder's name too."""
    place = os.path.expanduser(path)
    if os.path.isfile(place):
        return "." in os.path.basename(place) and not _is_database(place)
    marks = (MANIFEST, "config.json", "reward_model.json", CHECKPOINTS)
    return any(os.path.exists(os.path.join(place, mark)) for mark in marks)


def _is_database(place: str) -> bool:
    """Whether a file is an SQLite one, such as a store of labels: it grows while a run reads it.

    What such a run was given is in the store itself: see `HumanReward`.
    """
    try:
        with open(place, "rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False


def code_of(name: object) -> Path | None:
    """The file of the module that "module:attribute" names; nothing is imported."""
    module, separator, _ = str(name).partition(":")
    if not separator or not all(part.isidentifier() for part in module.split(".")):
        return None
    try:
        spec = importlib.util.find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    for part in module.split(".")[1:]:
        file = file.parent / part
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    return file if file.is_file() else None


def differences(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """What is not as it was when a run was recorded, in words; empty if everything is.

    :param recorded: the record that `provenance` made.
    :param config: the run's settings as they stand in its `config.yaml` now.
    """
    changes = computed_otherwise(_table(recorded, "computed_with"))
    written = _table(recorded, "config")
    for name in {**written, **config}:
        if written and written.get(name) != config.get(name):
            changes.append(
                f"config.yaml had {name}={written.get(name)!r:.60}, has {config.get(name)!r:.60}"
            )
    for name, paths in _table(recorded, "inputs").items():
        for path, before in paths.items() if isinstance(paths, dict) else ():
            after = fingerprint(path)
            if after != before:
                changes.append(f"{name} {path} had {_short(before)}, has {_short(after)}")
    return changes


def _table(recorded: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = recorded.get(name)
    return value if isinstance(value, dict) else {}


def _short(value: object) -> str:
    return NOTHING if value == NOTHING else f"SHA-256 {str(value)[:12]}"


def _of_directory(directory: Path) -> str:
    for place in ("", f"{CHECKPOINTS}/{BEST}", f"{CHECKPOINTS}/{LAST}"):
        if (directory / place / MANIFEST).is_file():
            return _sha256(directory / place / MANIFEST)
    files = sorted(f for f in directory.rglob("*") if f.is_file())
    names = (f.relative_to(directory).as_posix() for f in files)
    return _combined(zip(names, map(_sha256, files), strict=True))


def _combined(parts: Iterable[tuple[str, str]]) -> str:
    text = "\n".join(f"{name}\0{digest}" for name, digest in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _sha256(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
