"""A table of texts for a terminal, as Markdown and as LaTeX, in which no text acts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape as escape_markup
from rich.table import Table as RichTable

from textgym.agents.runs.markdown import escape_markdown
from textgym.terminal import visible

# An interval, which stays; or what Markdown takes for markup, a link or the start of a list.
_MARKDOWN = re.compile(
    r"(?P<interval>\[[+-]?\d[\d.]*, [+-]?\d[\d.]*\](?![(\[:]))"
    r"|[\\`*{}\[\]<>#~|!&$@^]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.|:(?=//)|^[-+](?=\s)|(?:(?<=^\d)|(?<=^\d\d))[.)](?=\s)"
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "·": r"\textperiodcentered{}",
    "−": "$-$",
    "×": r"$\times$",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


@dataclass(frozen=True)
class Table:
    """Rows of texts under headers; the first column is words, the others figures.

    :param note: what a reader must know of the columns; "" for nothing.
    """

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def rich_table(table: Table) -> RichTable:
    """For `rich.console.Console.print`."""
    shown = RichTable(title=_on_screen(table.title), title_justify="left")
    shown.caption, shown.caption_justify = _on_screen(table.note) or None, "left"
    for k, header in enumerate(table.headers):
        shown.add_column(_on_screen(header), justify="right" if k else "left", overflow="fold")
    for row in table.rows:
        shown.add_row(*map(_on_screen, row))
    return shown


def markdown(table: Table) -> str:
    """A heading, the table and its note, in Markdown."""
    header = f"| {' | '.join(map(markdown_text, table.headers))} |"
    rule = "|---|" + "---:|" * (len(table.headers) - 1)
    rows = [f"| {' | '.join(map(markdown_text, row))} |" for row in table.rows]
    lines = [f"## {markdown_text(table.title)}", "", header, rule, *rows]
    return "\n".join([*lines, "", markdown_text(table.note)] if table.note else lines)


def markdown_text(text: str) -> str:
    """A text on one line in which nothing acts; figures and plain words stay as they are."""
    return _MARKDOWN.sub(
        lambda match: match[0] if match["interval"] else escape_markdown(match[0]), _line(text)
    )


def latex(table: Table) -> str:
    r"""A `table` environment with the rules of `booktabs` (`\usepackage{booktabs}`)."""
    rows = [" & ".join(map(latex_text, row)) + r" \\" for row in table.rows]
    # After a line's end LaTeX takes these for arguments.
    rows = [f"{{}}{row}" if row.startswith(("[", "*")) else row for row in rows]
    caption = latex_text(" ".join(filter(None, [f"{table.title}.", table.note])))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.headers) - 1)}}}",
            r"\toprule",
            " & ".join(map(latex_text, table.headers)) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def latex_text(text: str) -> str:
    """A text in which LaTeX sees no command; beyond Latin letters it needs LuaLaTeX or XeLaTeX."""
    return "".join(_LATEX.get(sign, sign) for sign in _line(text))


def _on_screen(text: str) -> str:
    return escape_markup(_line(text))


def _line(text: str) -> str:
    return visible(" ".join(text.split()))
