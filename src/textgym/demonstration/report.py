"""What the demo shows at its end: two tables, and how to go on."""

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.agents.evaluation.report import EvaluationReport
from textgym.storage import json_text
from textgym.terminal import visible

TITLES = {"before": "before", "after": "after", "small_kl": "after, β too small"}


def write_texts(path: Path, reports: Mapping[str, EvaluationReport]) -> None:
    """One line per prompt with the continuation of each report."""
    with open(path, "w", encoding="utf-8") as file:
        for episodes in zip(*(report.episodes for report in reports.values()), strict=True):
            texts = [episode.completion for episode in episodes]
            row = {"prompt": episodes[0].prompt, **dict(zip(reports, texts, strict=True))}
            file.write(json_text(row) + "\n")


def figures_table(reports: Mapping[str, EvaluationReport]) -> Table:
    """The figures of evaluations side by side.

    :param reports: by name; those of `TITLES` are written out.
    """
    table = Table(title="Held-out prompts, before and after RL", title_justify="left")
    table.add_column("")
    for name in reports:
        table.add_column(TITLES.get(name, name), justify="right")
    table.add_column("better")
    columns = [
        {title: (figure, value) for figure, title, value in report.rows()}
        for report in reports.values()
    ]
    rows = {title: figure for column in columns for title, (figure, _) in column.items()}
    for title, figure in rows.items():
        values = [column[title][1] if title in column else 0.0 for column in columns]
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in values]
        table.add_row(escape(title), *cells, figure.better)
    return table


def texts_table(reports: Mapping[str, EvaluationReport], count: int = 8) -> Table:
    """The first few prompts with their continuations, side by side."""
    table = Table(title="Eight prompts", title_justify="left", show_lines=True)
    for column in ("prompt", *(TITLES.get(name, name) for name in reports)):
        table.add_column(column, overflow="fold")
    rows = zip(*(report.episodes for report in reports.values()), strict=True)
    for episodes in list(rows)[:count]:
        texts = [episodes[0].prompt, *(episode.completion for episode in episodes)]
        table.add_row(*(escape(visible(text)) for text in texts))
    return table


def print_next_steps(console: Console, page: Path, policy: Path, seconds: float) -> None:
    """Where everything is, and the commands to go on with.

    :param page: the report of the comparison.
    :param policy: the run with the larger β.
    """
    command, agent = command_here(), shlex.quote(str(policy))
    console.print(f"\nDone in {seconds:.0f} s. [bold]Open in a browser[/bold]: {escape(str(page))}")
    console.print("Go on with:", highlight=False)
    for line in (
        f"{command} tensorboard {shlex.quote(str(page.parent))}",
        f'{command} generate {agent} --prompt "The film" --max-new-tokens 40',
        f"{command} evaluate textgym/MovieReview-v0 --policy {agent} --gold critic",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)


def command_here() -> str:
    """How a shell here starts `textgym`: by name, or from the environment that runs this."""
    if shutil.which("textgym"):
        return "textgym"
    script, here = Path(sys.executable).with_name("textgym"), Path.cwd()
    return shlex.quote(str(script.relative_to(here) if script.is_relative_to(here) else script))
