"""The table of figures: what each is called, its unit, which way is better, and what it means.

The rows stand in `figures.csv`. What terminals show, TensorBoard's page of meanings and the tables
of docs/metrics.md are written from them.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

EVALUATION = "Evaluation"
_COLUMNS = ("tag", "meaning", "formula", "unit", "better", "source")


@dataclass(frozen=True)
class Figure:
    """A figure that runs, pretraining or evaluations write down.

    :param section: heading of docs/metrics.md that it stands under.
    :param tag: its name in the record and in TensorBoard; NAME in it stands for any name.
    :param label: what terminals and pictures call it.
    :param unit: "" where it is a plain number.
    :param better: "higher", "lower", or "" where neither is better.
    :param meaning: what it says, in Markdown.
    :param formula: how it is computed, in Markdown.
    :param source: whose code computes it.
    """

    section: str
    tag: str
    label: str
    unit: str
    better: str
    meaning: str
    formula: str
    source: str

    @property
    def title(self) -> str:
        """The label with its unit, as a table's row names it; a range needs none."""
        return self.label if not self.unit or " to " in self.unit else f"{self.label}, {self.unit}"


def figures(section: str | None = None) -> list[Figure]:
    """All figures, or those of a section, in the order of docs/metrics.md.

    A tag that several algorithms give a meaning of their own has several rows, one after another.
    """
    text = files("textgym.agents.runs").joinpath("figures.csv").read_text(encoding="utf-8")
    rows = [Figure(**row) for row in csv.DictReader(text.splitlines())]
    return [row for row in rows if section in (None, row.section)]


def figures_table(rows: Sequence[Figure]) -> str:
    """Figures as a Markdown table; a tag is written once."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    last = ""
    for row in rows:
        tag = "" if row.tag == last else f"`{row.tag}`"
        cells = (tag, row.meaning, row.formula, row.unit, row.better, row.source)
        lines.append("|" + "".join(f" {cell} |" if cell else " |" for cell in cells))
        last = row.tag
    return "\n".join(lines)
