"""The audit as one HTML file that asks for nothing outside itself, and runs no script."""

import base64
import hashlib
import html
from importlib import resources
from string import Template

from textgym.agents.comparison.table_formats import Table
from textgym.auditing.result import (
    Audit,
    best_of_n_table,
    example_rows,
    figure_text,
    matrix_table,
)
from textgym.reward_models.auditing.findings import Finding
from textgym.terminal import visible

SIGNS = {"pass": "✓", "warn": "!", "fail": "✗", "skip": "–"}


def page_html(audit: Audit) -> str:
    """The page; every text of a policy, a person or a reward model is escaped."""
    style = _read("audit.css")
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode()
    tables = [matrix_table(audit), best_of_n_table(audit)]
    return Template(_read("audit.html")).substitute(
        title=_text(f"Audit of {audit.reward}"),
        style_hash=f"sha256-{digest}",
        style=style,
        headline=_text(audit.headline),
        verdict=audit.verdict,
        about=_text(audit.about),
        findings="\n".join(map(_finding, audit.findings)),
        tables="\n".join(_table(table) for table in tables if table is not None),
    )


def _finding(finding: Finding) -> str:
    rows = "".join(
        f"<tr><td class='number'>{_text(score)}</td><td dir='auto'>{_text(text)}</td></tr>"
        for score, text in example_rows(finding)
    )
    is_open = " open" if finding.verdict == "fail" else ""
    examples = (
        f"<details{is_open}><summary>texts that show it</summary><table class='texts'>{rows}"
        "</table></details>"
        if rows and finding.verdict in ("warn", "fail")
        else ""
    )
    detail = f"{finding.figure}; {finding.threshold}" if finding.figure else ""
    return (
        f"<tr class='{finding.verdict}'><th scope='row'>{_text(finding.name)}</th>"
        f"<td class='verdict'><span aria-hidden='true'>{SIGNS[finding.verdict]}</span> "
        f"{finding.verdict}</td><td class='number'>{_text(figure_text(finding))}</td>"
        f"<td>{_text(finding.says)}<p class='note'>{_text(detail)}</p>{examples}</td></tr>"
    )


def _table(table: Table) -> str:
    head = "".join(f"<th scope='col'>{_text(header)}</th>" for header in table.headers)
    rows = "".join(
        f"<tr><th scope='row'>{_text(row[0])}</th>"
        + "".join(f"<td class='number'>{_text(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f"<h2>{_text(table.title)}</h2><div class='scroll' tabindex='0' role='region' "
        f"aria-label='{_text(table.title)}'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div><p class='note'>{_text(table.note)}</p>"
    )


def _text(text: str) -> str:
    shown = visible(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return html.escape(shown)


def _read(name: str) -> str:
    return (resources.files("textgym.auditing") / name).read_text(encoding="utf-8")
