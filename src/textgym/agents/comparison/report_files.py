"""All files of a report on a study: page, Markdown, LaTeX, JSON, TensorBoard's."""

import os
from pathlib import Path

from textgym.agents.comparison.page.write import write_page
from textgym.agents.comparison.study import Study
from textgym.agents.comparison.study_events import write_study_events
from textgym.agents.comparison.study_summary import summary_markdown, summary_of
from textgym.agents.comparison.verdict import Verdict
from textgym.errors import StorageError
from textgym.storage import cannot_write, write_json_atomically, write_text_atomically

PAGE, MARKDOWN, LATEX, JSON = "report.html", "report.md", "report.tex", "report.json"


def write_report(study: Study, verdict: Verdict, out: Path) -> list[Path]:
    """Write a report, each file in one step; what stood there of an earlier one is replaced.

    :param verdict: of the study.
    :return: the files and folders.
    :raises StorageError: if one cannot be written: those that are done stay.
    """
    check_writable(out)
    write_json_atomically(out / JSON, {**summary_of(study), "verdict": verdict.to_json()})
    write_text_atomically(out / MARKDOWN, f"{verdict.markdown()}\n{summary_markdown(study)}")
    write_text_atomically(out / LATEX, verdict.latex())
    try:
        events = write_study_events(study, out, verdict)
    except OSError as error:
        raise cannot_write(out, error) from error
    write_page(study, out / PAGE, verdict if verdict.judgements else None)
    return [*(out / name for name in (PAGE, MARKDOWN, LATEX, JSON)), events]


def check_writable(out: Path) -> None:
    """Raises unless files can be made in a directory, which is made where there is none.

    :raises StorageError: saying why not.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    if not os.access(out, os.W_OK | os.X_OK):
        raise StorageError(f"{out}: cannot be written (no permission); --out names another place")
