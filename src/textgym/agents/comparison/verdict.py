"""The verdict of a study: which cell is better by the gold judges, and what it was paid with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from textgym.agents.comparison.cautions import cautions_of
from textgym.agents.comparison.costs import Costs, costs_of
from textgym.agents.comparison.headline import headline_of
from textgym.agents.comparison.intervals import Estimate
from textgym.agents.comparison.judgements import (
    Judgement,
    judge_study,
    own_gains,
    scores_by_cell,
)
from textgym.agents.comparison.study import Study
from textgym.agents.comparison.table_formats import (
    Table,
    latex,
    latex_text,
    markdown,
    markdown_text,
    rich_table,
)
from textgym.agents.comparison.verdict_tables import cell_table, cost_table, pair_table
from textgym.errors import InputError
from textgym.terminal import visible

_PAIRS_ON_SCREEN = 15


@dataclass(frozen=True)
class Verdict:
    """What may be said of a study.

    :param title: the study's.
    :param headline: one plain sentence; no markup.
    :param judgements: one a gold judge that scored held-out texts.
    :param own: gain of each cell by the reward that it trains on, in that reward's standard
        deviations over the start's texts.
    :param costs: what the gains were paid with.
    :param cautions: what makes the verdict worth less, a sentence each.
    """

    title: str
    headline: str
    judgements: Sequence[Judgement]
    own: Mapping[str, Estimate] = field(default_factory=dict)
    costs: Sequence[Costs] = ()
    cautions: Sequence[str] = ()

    @property
    def winner(self) -> str | None:
        """The cell that all gold judges put before every other one; None where there is none."""
        winners = {judgement.winner for judgement in self.judgements}
        return winners.pop() if len(winners) == 1 else None

    def tables(self, *, most_pairs: int | None = None) -> list[Table]:
        """All of it as tables of texts.

        :param most_pairs: rows of a table of pairs; all by default.
        """
        found = []
        for judgement in self.judgements:
            found.append(cell_table(judgement, self.own))
            if judgement.pairs:
                found.append(pair_table(judgement, most=most_pairs))
        return [*found, cost_table(self.costs)] if self.costs else found

    def print(self, console: Console) -> None:
        """Show it in a terminal; of many pairs the first ones."""
        console.print(visible(self.headline), style="bold", markup=False)
        for table in self.tables(most_pairs=_PAIRS_ON_SCREEN):
            console.print(rich_table(table))
        for caution in self.cautions:
            console.print(f"- {visible(caution)}", markup=False)

    def markdown(self) -> str:
        """As a page of Markdown."""
        parts = [f"# {markdown_text(self.title)}", f"**{markdown_text(self.headline)}**"]
        if self.cautions:
            parts.append("\n".join(f"- {markdown_text(caution)}" for caution in self.cautions))
        parts += map(markdown, self.tables())
        return "\n\n".join(parts) + "\n"

    def latex(self) -> str:
        r"""As LaTeX tables, for a document with `\usepackage{booktabs}`."""
        words = [self.headline, *self.cautions]
        parts = [*(f"{latex_text(text)}\n" for text in words), *map(latex, self.tables())]
        return "\n".join(parts) + "\n"

    def to_json(self) -> dict[str, Any]:
        """JSON values: every number unrounded, NaN as None, and the tables as they are shown."""
        values = {**asdict(self), "winner": self.winner}
        values["own"] = {cell: asdict(found) for cell, found in self.own.items()}
        values["judgements"] = [{**asdict(j), "winner": j.winner} for j in self.judgements]
        found: dict[str, Any] = _json({**values, "tables": [asdict(t) for t in self.tables()]})
        return found


def verdict_of(study: Study) -> Verdict:
    """The verdict of a study.

    Its random numbers are always the same ones, so the verdict is too.

    :raises InputError: for a gold judge that a cell trains on.
    """
    for cell in study.cells:
        if cell.reward in study.gold():
            raise InputError(
                f"{cell.reward} is a gold judge, and {cell.label} trains on it: a judge must be "
                "independent of what it judges; leave one of the two out"
            )
    scores = {judge: scores_by_cell(study, judge) for judge in study.judges}
    judgements = [judge_study(study, judge, scores[judge]) for judge in study.gold()]
    judgements = [judgement for judgement in judgements if judgement.cells]
    return Verdict(
        title=study.title,
        headline=headline_of(judgements),
        judgements=judgements,
        own=own_gains(study, scores),
        costs=costs_of(study),
        cautions=cautions_of(study, judgements, scores),
    )


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _json(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_json(entry) for entry in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
