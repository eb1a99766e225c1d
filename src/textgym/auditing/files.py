"""All files of an audit: page, Markdown, JSON, TensorBoard's."""

from pathlib import Path

from textgym.agents.comparison.event_file import event_file
from textgym.agents.comparison.report_files import check_writable
from textgym.agents.comparison.table_formats import Table, markdown, markdown_text
from textgym.auditing.page import page_html
from textgym.auditing.result import (
    Audit,
    best_of_n_table,
    example_rows,
    matrix_table,
    table_of,
)
from textgym.run_files import TENSORBOARD
from textgym.storage import cannot_write, write_json_atomically, write_text_atomically

PAGE, MARKDOWN, JSON = "audit.html", "audit.md", "audit.json"
LEVELS = {"pass": 0, "warn": 1, "fail": 2}


def write_audit(audit: Audit, out: Path) -> list[Path]:
    """Write an audit, each file in one step.

    :returns: the files, and the folder of TensorBoard's.
    :raises StorageError: if one cannot be written: those that are done stay.
    """
    check_writable(out)
    write_json_atomically(out / JSON, audit.to_json())
    write_text_atomically(out / MARKDOWN, audit_markdown(audit))
    write_text_atomically(out / PAGE, page_html(audit))
    try:
        write_events(audit, out / TENSORBOARD)
    except OSError as error:
        raise cannot_write(out, error) from error
    return [out / PAGE, out / MARKDOWN, out / JSON, out / TENSORBOARD]


def audit_markdown(audit: Audit) -> str:
    """Tables and examples in Markdown, in which no text acts."""
    tables = [table_of(audit), matrix_table(audit), best_of_n_table(audit)]
    parts = [markdown(table) for table in tables if table is not None]
    for finding in audit.findings:
        rows = example_rows(finding)
        if rows and finding.verdict in ("warn", "fail"):
            shown = Table(f"Examples: {finding.name}", ("score", "text"), rows)
            parts.append(markdown(shown))
    return "\n\n".join(["# Audit of a reward model", *parts]) + "\n"


def write_events(audit: Audit, folder: Path) -> None:
    """The figures for TensorBoard: values, verdicts (0 pass, 1 warn, 2 fail), tables as text.

    :raises OSError: if they cannot be written.
    """
    for old in folder.glob("events.out.tfevents.*.audit") if folder.is_dir() else ():
        old.unlink()
    with event_file(folder, suffix=".audit") as events:
        for finding in audit.findings:
            tag = finding.name.replace(":", "").replace(" ", "_")
            if finding.value == finding.value:
                events.add_scalar(f"audit/{tag}", finding.value, 0)
            if finding.verdict in LEVELS:
                events.add_scalar(f"audit_verdict/{tag}", LEVELS[finding.verdict], 0)
        for judge, curve in audit.best_of_n.items():
            for n, gain in curve.items():
                events.add_scalar(f"audit_best_of_n/{markdown_text(judge)}", gain, n)
        events.add_text("audit/table", audit_markdown(audit), 0)
