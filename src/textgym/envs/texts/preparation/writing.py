"""What a preparation writes: a file of rows for each part, the report and the recipe.

All of it is staged beside the directory and takes its name at the end: an interrupt or an error on
the way leaves nothing.
"""

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from textgym.directories import atomic_directory
from textgym.envs.texts.preparation.pipeline import PreparationReport, Prepared
from textgym.envs.texts.preparation.reading import RowFiles
from textgym.envs.texts.preparation.recipe import Recipe
from textgym.envs.texts.preparation.report import markdown
from textgym.envs.texts.preparation.rows import Row
from textgym.errors import InputError
from textgym.manifest import sha256
from textgym.storage import json_text

RECIPE, REPORT, MARKDOWN = "recipe.json", "report.json", "report.md"
WHOLE = "texts"  # the file's name where there is no split
_HALF_PAIRS = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Preparation:
    """What `textgym.prepare` did.

    :param out: the directory.
    :param report: what each step did.
    :param files: the files of rows, by part ("texts" without a split).
    :param recipe: as it was written.
    :param encodings: what each input was read as.
    """

    out: Path
    report: PreparationReport
    files: dict[str, Path]
    recipe: Recipe
    encodings: dict[Path, str]


def write_preparation(
    out: Path, prepared: "Prepared[Row]", source: RowFiles, recipe: Recipe
) -> Preparation:
    """Prepare all rows and write them, the report and the recipe.

    :param recipe: without the sums of what is written.
    :raises InputError: if no row is left, or one cannot be written so.
    :raises StorageError: if the directory cannot be written.
    """
    with atomic_directory(out) as staging:
        with _PartFiles(staging, recipe) as parts:
            for row in prepared:
                parts.write(row)
        report = prepared.report
        _require_rows(report)
        outputs = {name: sha256(staging / name) for name in sorted(parts.names.values())}
        recipe = replace(recipe, outputs=outputs)
        encodings = {str(path): name for path, name in source.encodings.items()}
        content = {"encodings": encodings, **report.to_json()}
        for name, text in (
            (RECIPE, json_text(recipe.to_json(), indent=2) + "\n"),
            (REPORT, json_text(content, indent=2) + "\n"),
            (MARKDOWN, markdown(report, encodings)),
        ):
            (staging / name).write_text(text, encoding="utf-8")
    files = {part: out / name for part, name in parts.names.items()}
    return Preparation(out, report, files, recipe, dict(source.encodings))


class _PartFiles:
    """The open files of the parts; each is made when its first row comes."""

    def __init__(self, directory: Path, recipe: Recipe) -> None:
        self._directory, self._recipe = directory, recipe
        self._open: dict[str, IO[str]] = {}
        self._stack = contextlib.ExitStack()
        self.names: dict[str, str] = {}

    def __enter__(self) -> "_PartFiles":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def write(self, row: Row) -> None:
        part = row.part or WHOLE
        if part not in self._open:
            name = self.names[part] = f"{part}.{self._recipe.format}"
            file = open(self._directory / name, "w", encoding="utf-8", newline="\n")
            self._open[part] = self._stack.enter_context(file)
        self._open[part].write(self._line(row) + "\n")

    def _line(self, row: Row) -> str:
        if _HALF_PAIRS.search(row.text):
            raise InputError(
                f"{row.place}: holds half a surrogate pair: add the step 'control_characters'"
            )
        if self._recipe.format == "txt":
            if len(row.text.splitlines()) > 1:
                raise InputError(
                    f"{row.place}: holds a line break, and a .txt file has a text a line: add the "
                    "step 'white_space', or write --format jsonl"
                )
            return row.text
        origin = {} if row.origin is None else {"augmented_from": row.origin}
        return json_text({self._recipe.column: row.text, **row.values, **origin})


def _require_rows(report: PreparationReport) -> None:
    """Raises if no row is left.

    :raises InputError: naming the step that removed the last.
    """
    if report.kept:
        return
    if not report.read:
        raise InputError("no text to prepare: the inputs hold none")
    removed = [count for count in report.steps if count.removed]
    reasons = ", ".join(f"{name} {n:,}" for name, n in removed[-1].reasons.most_common(3))
    counts: Iterable[str] = (f"{count.name} {count.removed:,}" for count in removed)
    raise InputError(
        f"no rows left: of {report.read:,} read, the steps removed {', '.join(counts)}"
        f"{f' ({reasons})' if reasons else ''}; loosen the last of them"
    )
