"""An audit on a terminal: the table, and a text for each check that failed or warns."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.auditing.result import Audit, best_of_n_table, example_rows, figure_text
from textgym.terminal import visible

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "skip": "dim"}
SHOWN = 160  # characters of a text


def show_audit(audit: Audit, console: Console) -> None:
    """Print an audit."""
    table = Table(title=_cell(audit.headline), title_justify="left", caption=_cell(audit.about))
    table.add_column("check")
    table.add_column("verdict")
    table.add_column("value [95%]".replace("[", r"\["), justify="right", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    for finding in audit.findings:
        verdict = f"[{COLOURS[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(
            _cell(finding.name), verdict, _cell(figure_text(finding)), _cell(finding.says)
        )
    console.print(table)
    curve = best_of_n_table(audit)
    if curve is not None:
        shown = Table(title=_cell(curve.title), title_justify="left")
        for header in curve.headers:
            shown.add_column(_cell(header))
        for row in curve.rows:
            shown.add_row(*map(_cell, row))
        console.print(shown)
    for finding in audit.findings:
        rows = example_rows(finding)
        if not rows or finding.verdict not in ("warn", "fail"):
            continue
        console.print(_cell(f"{finding.name}: {finding.says}"), style=COLOURS[finding.verdict])
        for score, text in rows[:2]:
            cut = text if len(text) <= SHOWN else f"{text[:100]} … {text[100 - SHOWN :]}"
            console.print(f"  {_cell(score)}  {_cell(' '.join(cut.split()))}")
    if audit.files:
        console.print("written:")
        for path in audit.files:
            console.print(f"  {_cell(str(path))}", soft_wrap=True)


def _cell(text: str) -> str:
    return escape(visible(text))
