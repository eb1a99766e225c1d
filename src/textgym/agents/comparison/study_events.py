"""A study in TensorBoard: curves with bands, HParams, pictures and texts, from the record alone.

Under `tensorboard/` stands one run for the study (layout, HParams columns, pictures, texts), one
for each cell (means and bands over its seeds) and in it one for each seed (held-out figures and
the HParams row). The runs' own event files stay as they are.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from torch.utils.tensorboard.summary import custom_scalars

from textgym.agents.comparison import hparams, study_texts
from textgym.agents.comparison.band_layout import band_layout, band_tags
from textgym.agents.comparison.event_file import EventFile, event_file
from textgym.agents.comparison.held_out_curves import Curves, band_of, curve_tags, curves_of
from textgym.agents.comparison.study import Floats, Study, StudyRun
from textgym.agents.comparison.study_pictures import study_pictures
from textgym.agents.comparison.verdict import Verdict
from textgym.run_files import TENSORBOARD

SUFFIX = ".study"
LAST_FIGURES = (
    "reward/total",
    "reward/environment",
    "kl/per_episode",
    "text/length",
    "text/distinct_2",
    "time/rollout_tokens_per_second",
)


def write_study_events(study: Study, out: Path, verdict: Verdict | None = None) -> Path:
    """Write what TensorBoard shows of a study; event files of an earlier call are replaced.

    :param out: the study's directory.
    :param verdict: of the study, told on the page of texts; None tells none.
    :return: where the event files stand.
    :raises OSError: if they cannot be written; the earlier ones then stay as they were.
    """
    place = out / TENSORBOARD
    place.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in place.rglob(f"*{SUFFIX}") if path.is_file()]
    with tempfile.TemporaryDirectory(dir=out, prefix=".tensorboard-") as fresh:
        _write_all(study, Path(fresh), verdict)
        for path in earlier:
            path.unlink()
        for path in sorted(Path(fresh).rglob(f"*{SUFFIX}")):
            target = place / path.relative_to(fresh)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
    for folder in sorted({path.parent for path in earlier}, reverse=True):
        while folder != place and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
    return place


def cell_folders(study: Study) -> dict[str, str]:
    """The name of each cell's run in TensorBoard, by its label: the label, as far as files can."""
    folders: dict[str, str] = {}
    for cell in study.cells:
        name = re.sub(r'[\x00-\x1f\x7f/\\<>:"|?*]+', "_", cell.label).strip(" .")[:80] or "cell"
        taken, n = {folder.casefold() for folder in folders.values()}, 1
        while (numbered := name if n == 1 else f"{name} ({n})").casefold() in taken:
            n += 1
        folders[cell.label] = numbered
    return folders


def _write_all(study: Study, place: Path, verdict: Verdict | None) -> None:
    tags = curve_tags(study)
    folders = cell_folders(study)
    rows = hparams.hparam_rows(study)
    curves = {
        run.name: curves_of(run, list(study.judges)) for run in study.runs if run.record is not None
    }
    of_cells = {
        cell.label: [curves[run.name] for run in study.runs_of(cell.label) if run.record]
        for cell in study.cells
    }
    of_cells = {label: found for label, found in of_cells.items() if found}
    with event_file(place, suffix=SUFFIX) as writer:
        known = [*(tags if curves else ()), *_last_tags(study)]
        writer.add(hparams.experiment(study.title, list(rows.values()), known))
        _write_study(study, of_cells, writer)
        if verdict is not None:
            writer.add_text("study/verdict", study_texts.verdict_text(verdict), _end(study))
    for label, found in of_cells.items():
        with event_file(place / folders[label], suffix=SUFFIX) as writer:
            _write_band(writer, found, tags)
    for run in study.runs:
        folder = place / folders[run.cell] / f"seed-{run.seed}"
        with event_file(folder, suffix=SUFFIX) as writer:
            writer.add(hparams.session_start(rows[run.name]))
            _write_run(run, curves.get(run.name), writer)
            writer.add(hparams.session_end())


def _write_study(study: Study, curves: Mapping[str, Sequence[Curves]], writer: EventFile) -> None:
    """Layout, pictures and texts.

    :param curves: by the label of a cell, those of its runs.
    """
    if curves:
        has_bands = max(map(len, curves.values())) > 1
        writer.add(custom_scalars(band_layout(study, has_bands=has_bands)))  # type: ignore[no-untyped-call]
    end = _end(study)
    for name, pixels in study_pictures(study, curves).items():
        writer.add_image(f"pictures/{name}", pixels, end)
    for tag, step, text in _texts(study, end):
        writer.add_text(tag, text, step)


def _write_band(writer: EventFile, curves: Sequence[Curves], tags: Sequence[str]) -> None:
    for tag in tags:
        band = band_of(curves, tag)
        for name, values in zip(
            (tag, *band_tags(tag)), (band.mean, band.lower, band.upper), strict=True
        ):
            _add_scalars(writer, name, band.steps, values)


def _write_run(run: StudyRun, curves: Curves | None, writer: EventFile) -> None:
    """The held-out figures of a run, and the last ones of its training."""
    if curves is not None:
        for tag, values in curves.values.items():
            _add_scalars(writer, tag, curves.steps, values)
    for tag, value in _last_figures(run).items():
        _add_scalars(writer, tag, [run.timesteps], np.array([value]))


def _texts(study: Study, end: int) -> Iterator[tuple[str, int, str]]:
    """Tag, step and Markdown of every text."""
    yield "study/about", end, study_texts.about(study)
    runs = study_texts.shown_runs(study)
    for cell in study.cells if runs else ():
        yield f"most_regressed/{cell.label}", end, study_texts.most_regressed(study, cell)
    note = study_texts.seed_note(runs, study)
    for step in study_texts.evaluation_steps(runs):
        columns = study_texts.columns_at(study, runs, step)
        for prompt in range(len(study.prompts)):
            text = study_texts.prompt_table(study, columns, prompt, note)
            yield f"prompts/{prompt + 1:03}", step, text
    sampled = [run for run in study_texts.first_runs(study) if run.samples and not run.record]
    for step in sorted({int(row["step"]) for run in sampled for row in run.samples}):
        yield "samples/continuations", step, study_texts.sample_table(sampled, step)


def _end(study: Study) -> int:
    return max((run.timesteps for run in study.runs), default=0)


def _last_figures(run: StudyRun) -> dict[str, float]:
    known = {f"last/{tag}": run.figures[tag] for tag in LAST_FIGURES if tag in run.figures}
    return known | ({} if run.seconds is None else {"last/seconds": run.seconds})


def _last_tags(study: Study) -> list[str]:
    return list(dict.fromkeys(tag for run in study.runs for tag in _last_figures(run)))


def _add_scalars(writer: EventFile, tag: str, steps: Sequence[int], values: Floats) -> None:
    for step, value in zip(steps, values, strict=True):
        if np.isfinite(value):
            writer.add_scalar(tag, float(value), step)
