"""`textgym.prepare`: from raw files to texts that a model can learn from, by a list of steps."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from textgym.checks import check_numbers
from textgym.envs.texts.preparation.catalogue import step_of
from textgym.envs.texts.preparation.pipeline import Prepared, TextPipeline, default_rules
from textgym.envs.texts.preparation.reading import RowFiles
from textgym.envs.texts.preparation.recipe import (
    FORMATS,
    Recipe,
    read_recipe,
    step_files,
    versions_here,
)
from textgym.envs.texts.preparation.report import terminal
from textgym.envs.texts.preparation.rows import Row
from textgym.envs.texts.preparation.writing import Preparation, write_preparation
from textgym.errors import InputError
from textgym.manifest import sha256
from textgym.paths import absolute
from textgym.terminal import for_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from textgym.envs.texts.preparation.step import Step


def prepare(
    inputs: str | Path | Sequence[str | Path] = (),
    *,
    out: str | Path,
    step: "str | Step | Sequence[str | Step]" = (),
    recipe: str | Path | None = None,
    column: str = "text",
    paragraphs: bool = False,
    encoding: str = "auto",
    format: str = "jsonl",
    seed: int = 0,
    samples: int = 1,
    progress_bar: bool = True,
    report: "Callable[[str], None]" = print,
) -> Preparation:
    """Clean, filter, segment, augment and split texts, step by step, and write what is left.

    Files are streamed, one text in memory at a time. Beside the rows stand a report of what each
    step did, with samples, and a recipe that makes the same run again, bit for bit.

    :param inputs: files of texts (.txt, .jsonl or .csv, also .gz); with a recipe, its own inputs
        unless others are given.
    :param out: directory of the rows (texts.jsonl, or a file for each part of a split), report.md,
        report.json and recipe.json.
    :param step: a step, with arguments after commas ("normalize,form=NFKC"); may be given several
        times, and they are done in this order. Without any, what `textgym pretrain` does: control
        characters, Unicode, white space, length, duplicates.
    :param recipe: the recipe.json of another run, whose steps and settings are taken.
    :param column: where .jsonl and .csv files hold the text; the other columns are kept.
    :param paragraphs: in .txt files, a text ends at a blank line rather than at each line's end.
    :param encoding: "auto" (UTF-8, or else found out), a charset, or several ("utf-8+gb18030")
        that are tried on each line.
    :param format: "jsonl", or "txt", which has texts alone, one a line.
    :param seed: of steps that draw, where their arguments give no other.
    :param samples: texts to show of each step, before and after.
    :param progress_bar: show one.
    :param report: shows a line of text.
    :raises InputError: naming file and line, step or flag; also if no row is left.
    :raises StorageError: if `out` cannot be written.
    :return: what was done.
    """
    check_numbers({"seed": seed, "samples": samples})
    settings = {"column": column, "paragraphs": paragraphs, "encoding": encoding, "format": format}
    files = tuple(map(absolute, [inputs] if isinstance(inputs, str | Path) else inputs))
    place = absolute(out)
    if recipe is None:
        if not files:
            raise InputError("missing INPUTS: the files to prepare")
        if format not in FORMATS:
            raise InputError(f"format must be one of {', '.join(FORMATS)}, got {format!r:.60}")
        planned = Recipe(files, tuple(_steps(step, seed)), **settings)  # type: ignore[arg-type]
    else:
        _refuse_beside_recipe({**settings, "step": tuple(_listed(step)), "seed": seed})
        planned = read_recipe(recipe)
        planned.check_sums(with_inputs=not files)
    made = _run(planned, files or planned.inputs, place, progress_bar=progress_bar)
    report(for_output(terminal(made.report, samples)))
    for path, name in made.encodings.items():
        if not name.startswith("utf-8"):
            report(for_output(f"note: {path} was read as {name}"))
    if recipe is not None and not files:
        report(_same_or_not(planned, made.recipe))
    return made


def _run(recipe: Recipe, files: tuple[Path, ...], out: Path, *, progress_bar: bool) -> Preparation:
    source = RowFiles(
        files, column=recipe.column, paragraphs=recipe.paragraphs, encoding=recipe.encoding
    )
    pipeline = TextPipeline(recipe.steps)
    if recipe.format == "txt" and any(s.key == "augment" for s in recipe.steps):
        raise InputError(
            "the step 'augment' needs --format jsonl: a .txt file has no place for where a text "
            "comes from"
        )
    sums = {str(path): sha256(path) for path in (*files, *step_files(recipe.steps))}
    recipe = Recipe(
        files, recipe.steps, recipe.column, recipe.paragraphs, recipe.encoding, recipe.format,
        sums=sums, versions=versions_here(),
    )  # fmt: skip
    recipe.to_json()  # a step that it cannot hold is refused before the work
    with tqdm(source, unit=" texts", disable=not progress_bar) as rows:
        prepared: Prepared[Row] = pipeline.rows(rows)
        return write_preparation(out, prepared, source, recipe)


def _steps(given: object, seed: int) -> "Iterable[Step]":
    return [step_of(spec, seed=seed) for spec in _listed(given)] or default_rules()


def _listed(given: object) -> list[object]:
    if isinstance(given, Sequence) and not isinstance(given, str):
        return list(given)
    return [given]


def _refuse_beside_recipe(given: dict[str, object]) -> None:
    """Raises if something is given that the recipe says already.

    :raises InputError: naming it.
    """
    defaults = {"column": "text", "paragraphs": False, "encoding": "auto", "format": "jsonl"}
    for name, value in given.items():
        if value != {**defaults, "step": (), "seed": 0}[name]:
            raise InputError(f"{name} must not be given beside a recipe, which holds it")


def _same_or_not(planned: Recipe, made: Recipe) -> str:
    """Whether a run made from a recipe wrote the same bytes, as a line for people."""
    if planned.outputs == made.outputs:
        return "the same bytes as the recipe's run"
    changed = [
        f"{name} {old or 'none'} then, {made.versions.get(name, 'none')} now"
        for name, old in planned.versions.items()
        if made.versions.get(name) != old
    ]
    return f"note: not the bytes of the recipe's run ({'; '.join(changed) or 'no version differs'})"
