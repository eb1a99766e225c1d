"""What the demo shows at its end: two tables, and how to go on."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.agents.evaluation.report import EvaluationReport
from textgym.storage import json_text
from textgym.terminal import visible


def write_texts(path: Path, before: EvaluationReport, after: EvaluationReport) -> None:
    """One line per prompt with both continuations."""
    with open(path, "w", encoding="utf-8") as file:
        for a, b in zip(before.episodes, after.episodes, strict=True):
            row = {"prompt": a.prompt, "before": a.completion, "after": b.completion}
            file.write(json_text(row) + "\n")


def figures_table(before: EvaluationReport, after: EvaluationReport) -> Table:
    """The figures of two evaluations side by side."""
    table = Table(title="Held-out prompts, before and after RL", title_justify="left")
    for column, justify in (
        ("", "left"),
        ("before", "right"),
        ("after", "right"),
        ("better", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    first, second = (
        {title: (figure, value) for figure, title, value in report.rows()}
        for report in (before, after)
    )
    for title, (figure, _) in {**first, **second}.items():
        values = [rows[title][1] if title in rows else 0.0 for rows in (first, second)]
        cells = [f"{v:.3f}" if isinstance(v, float) else str(v) for v in values]
        table.add_row(escape(title), *cells, figure.better)
    return table


def texts_table(before: EvaluationReport, after: EvaluationReport, count: int = 8) -> Table:
    """The first few prompts with their continuations, side by side."""
    table = Table(title="Eight prompts", title_justify="left", show_lines=True)
    for column in ("prompt", "before", "after"):
        table.add_column(column, overflow="fold")
    for a, b in list(zip(before.episodes, after.episodes, strict=True))[:count]:
        table.add_row(*(escape(visible(text)) for text in (a.prompt, a.completion, b.completion)))
    return table


def print_next_steps(
    console: Console, directory: Path, pictures: Sequence[Path], seconds: float
) -> None:
    """Where everything is, and the commands to go on with."""
    command, agent = command_here(), shlex.quote(str(directory / "ppo"))
    console.print(f"\nDone in {seconds:.0f} s. Pictures: {', '.join(map(str, pictures))}")
    console.print("Go on with:", highlight=False)
    for line in (
        f"{command} tensorboard {shlex.quote(str(directory))}",
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
