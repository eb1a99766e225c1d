"""The recipe of a preparation: everything that makes the same run again, bit for bit.

A JSON file (YAML is read too) with a format version, the inputs with their SHA-256, how they are
read, the steps with all their parameters, the files that steps read, and the versions of what took
part.
"""

import platform
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from textgym.envs.texts.preparation.catalogue import step_from_json
from textgym.envs.texts.preparation.step import Step
from textgym.errors import InputError
from textgym.manifest import sha256
from textgym.paths import expand
from textgym.storage import read_json
from textgym.yaml_files import read_yaml

VERSION = 1
FORMATS = ("jsonl", "txt")
_LIBRARIES = ("numpy", "charset-normalizer", "ftfy", "opencc", "py3langid", "rjieba")
_KEYS = frozenset(
    "recipe_version inputs column paragraphs encoding format steps files outputs versions".split()
)


@dataclass(frozen=True)
class Recipe:
    """What a run of `textgym.prepare` is made of.

    :param inputs: the files, absolute.
    :param steps: in order.
    :param column: of .jsonl and .csv files that holds the text.
    :param paragraphs: whether a .txt file has a text a paragraph rather than a line.
    :param encoding: see `textgym.envs.texts.encodings`.
    :param format: of what is written, "jsonl" or "txt".
    :param sums: SHA-256 of inputs and of files that steps read, by path; and of what was written.
    """

    inputs: tuple[Path, ...]
    steps: tuple[Step, ...]
    column: str = "text"
    paragraphs: bool = False
    encoding: str = "auto"
    format: str = "jsonl"
    sums: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The file's content.

        :raises InputError: for a step that no recipe can hold.
        """
        return {
            "recipe_version": VERSION,
            "inputs": [{"path": str(p), "sha256": self.sums[str(p)]} for p in self.inputs],
            "column": self.column,
            "paragraphs": self.paragraphs,
            "encoding": self.encoding,
            "format": self.format,
            "steps": [step.to_json() for step in self.steps],
            "files": {str(p): self.sums[str(p)] for p in step_files(self.steps)},
            "outputs": dict(self.outputs),
            "versions": dict(self.versions),
        }

    def check_sums(self, *, with_inputs: bool) -> None:
        """Raises unless the files are those that the recipe was written for.

        :param with_inputs: whether the inputs count, too.
        :raises InputError: naming the first that is not.
        """
        files = [*(self.inputs if with_inputs else ()), *step_files(self.steps)]
        for path in files:
            expected = self.sums.get(str(path))
            if expected is not None and sha256(path) != expected:
                raise InputError(
                    f"{path}: not the file that the recipe was written for (its SHA-256 differs): "
                    "bring that back, or name the inputs and steps anew"
                )


def step_files(steps: Sequence[Step]) -> list[Path]:
    """The files that steps read, each once."""
    return list(dict.fromkeys(path for step in steps for path in step.files()))


def versions_here() -> dict[str, str]:
    """The versions of what takes part in a preparation; libraries that are missing are left out."""
    found = {
        "textgym": "",
        "python": platform.python_version(),
        "unicode": unicodedata.unidata_version,
    }
    for library in ("textgym", *_LIBRARIES):
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found.pop(library, None)
    return found


def read_recipe(path: str | Path) -> Recipe:
    """A recipe's file, JSON or YAML.

    :raises InputError: naming the file, for another version or what is no recipe.
    """
    path = expand(path)
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    content = read_yaml(path) if is_yaml else read_json(path)
    if not isinstance(content, dict) or "recipe_version" not in content:
        raise InputError(f"{path}: expected a recipe of textgym prepare, found something else")
    version = content["recipe_version"]
    if version != VERSION or isinstance(version, bool):
        raise InputError(
            f"{path}: a recipe of version {version!r:.20}, but this textgym reads version {VERSION}"
            ": run it with the textgym that wrote it, or name the steps anew"
        )
    unknown = sorted(map(str, content.keys() - _KEYS))
    if unknown:
        raise InputError(f"{path}: unknown key {unknown[0]!r:.60} in a recipe")
    return _recipe(content, path)


def _recipe(content: Mapping[str, Any], path: Path) -> Recipe:
    inputs = _typed(content, "inputs", list, path)
    for entry in inputs:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
            raise InputError(f"{path}: inputs: expected a path and its sha256, got {entry!r:.60}")
    files = {
        str(expand(e["path"])): e["sha256"] for e in inputs if isinstance(e.get("sha256"), str)
    }
    steps = _typed(content, "steps", list, path)
    recipe = Recipe(
        inputs=tuple(expand(entry["path"]) for entry in inputs),
        steps=tuple(step_from_json(value, str(path)) for value in steps),
        column=_typed(content, "column", str, path, "text"),
        paragraphs=_typed(content, "paragraphs", bool, path, False),
        encoding=_typed(content, "encoding", str, path, "auto"),
        format=_typed(content, "format", str, path, "jsonl"),
        sums={**_typed(content, "files", dict, path, {}), **files},
        outputs=_typed(content, "outputs", dict, path, {}),
        versions=_typed(content, "versions", dict, path, {}),
    )
    if recipe.format not in FORMATS:
        raise InputError(f"{path}: format must be one of {FORMATS}, got {recipe.format!r:.60}")
    return recipe


def _typed(
    content: Mapping[str, Any], key: str, kind: type, path: Path, default: Any = None
) -> Any:
    value = content.get(key, default)
    if not isinstance(value, kind):
        raise InputError(
            f"{path}: {key} must be {_KINDS[kind]}, got {value!r:.60}: is it a recipe of ours?"
        )
    return value


_KINDS = {list: "a list", str: "a text", bool: "true or false", dict: "a table"}
