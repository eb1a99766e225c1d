"""What quatrains of a policy look like beside those of its start: figures, a table, the poems."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from textgym.agents.evaluation.report import Interval
from textgym.agents.runs.held_out import HeldOutText
from textgym.demonstration.chinese_readers import JUDGE
from textgym.envs.tasks.quatrains import SYLLABLES, Form
from textgym.reward_models.rules.pingshui import readings
from textgym.reward_models.rules.quatrains import (
    form_score,
    quatrain_lines,
    rhyme_score,
    tone_score,
)
from textgym.reward_models.share_intervals import wilson_interval
from textgym.storage import write_text_atomically
from textgym.terminal import visible
from textgym.text_metrics.metrics import distinct_n, duplicate_share

TITLES = {"before": "before", "after": "after", "rules_alone": "after, rules alone"}
POEMS = "poems.md"


@dataclass(frozen=True)
class Span:
    """A figure over prompts with its 95% interval, both ends of it."""

    mean: float
    low: float
    high: float

    @classmethod
    def of_share(cls, holds: Sequence[bool]) -> "Span":
        """The share of prompts with a property; Wilson's interval."""
        share = sum(holds) / len(holds)
        return cls(share, *wilson_interval(share, len(holds), 1.96))

    @classmethod
    def of_mean(cls, values: Sequence[float]) -> "Span":
        """The mean over prompts; the normal interval."""
        interval = Interval.of(values)
        mean, half = interval.mean, interval.half_width
        return cls(mean, mean - half, mean + half)

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True)
class Poems:
    """What a policy wrote after held-out first lines.

    :param prompts: the first lines.
    :param texts: what came after each.
    """

    prompts: Sequence[str]
    texts: Sequence[HeldOutText]

    @property
    def completions(self) -> list[str]:
        """Without their first lines."""
        return [text.completion for text in self.texts]

    @property
    def whole(self) -> list[str]:
        """With their first lines."""
        return [p + c for p, c in zip(self.prompts, self.completions, strict=True)]


def figures_of(poems: Poems, form: Form, corpus: Collection[str]) -> dict[str, Any]:
    """The figures of `report.json`; those with an interval as `mean`, `low` and `high`.

    :param corpus: lines of poems by people, without their marks.
    """
    n = (SYLLABLES[form],)
    whole, completions = poems.whole, poems.completions
    formed = [form_score(text, n) == 1 for text in whole]
    rhymed = [rhyme_score(text) == 1 for text in whole]
    tones = [tone_score(text, n) for text in whole]
    kept = [f and r and t == 1 for f, r, t in zip(formed, rhymed, tones, strict=True)]
    spans = {
        "well_formed": Span.of_share(formed),
        "rhyme": Span.of_share(rhymed),
        "tones": Span.of_mean(tones),
        "all_rules": Span.of_share(kept),
    }
    scores = [text.scores.get(JUDGE) for text in poems.texts]
    known = [score for score in scores if score is not None]
    if len(known) == len(scores):
        spans["judge"] = Span.of_mean(known)
    return {
        **{name: asdict(span) for name, span in spans.items()},
        "distinct_2": distinct_n(completions, 2),
        "copied_lines": copied_lines(completions, corpus),
        "duplicates": duplicate_share(completions),
        "commonest_line": commonest_line(completions),
        "commonest_rhyme": commonest_rhyme(completions),
        "kl": float(np.mean([text.kl for text in poems.texts])),
    }


def copied_lines(completions: Sequence[str], corpus: Collection[str]) -> float:
    """The share of all lines that stand in a corpus word for word."""
    lines = [line for text in completions for line, _ in quatrain_lines(text)]
    return sum(line in corpus for line in lines) / len(lines) if lines else 0.0


def commonest_line(completions: Sequence[str]) -> float:
    """How many of the texts have the line that most have, as a share."""
    lines = [line for text in completions for line in {line for line, _ in quatrain_lines(text)}]
    return max(map(lines.count, set(lines)), default=0) / max(len(completions), 1)


def commonest_rhyme(completions: Sequence[str]) -> float:
    """The share of the texts that end on the rhyme on which most do; .5 of poems that all rhyme on
    two: a policy that always takes one rhyme need not look back at line 2.
    """
    ends = [lines[-1][0][-1:] for text in completions if (lines := quatrain_lines(text))]
    rhymes = [rhyme for end in ends for rhyme in readings(end).level]
    return max(map(rhymes.count, set(rhymes)), default=0) / max(len(completions), 1)


ROWS = (
    ("well_formed", "well formed: four lines of {n}, their marks"),
    ("rhyme", "lines 2 and 4 rhyme, on a level tone"),
    ("tones", "tones that fit the nearest pattern"),
    ("all_rules", "all three kept to the letter"),
    ("judge", "judge {judge}"),
    ("distinct_2", "distinct-2"),
    ("copied_lines", "lines that stand in the bundled poems"),
    ("duplicates", "texts that were there before"),
    ("commonest_line", "texts with the commonest line"),
    ("commonest_rhyme", "texts that end on the commonest rhyme"),
    ("kl", "KL to the start, nats a text"),
)


def figures_table(figures: Mapping[str, Mapping[str, Any]], form: Form) -> Table:
    """The figures side by side, intervals in brackets.

    :param figures: by name; those of `TITLES` are written out.
    """
    table = Table(title="Held-out first lines, before and after RL", title_justify="left")
    table.add_column("")
    for name in figures:
        table.add_column(TITLES.get(name, name), justify="right")
    for key, title in ROWS:
        if any(key in column for column in figures.values()):
            cells = [written(column.get(key)) for column in figures.values()]
            table.add_row(title.format(n=SYLLABLES[form], judge=JUDGE), *cells)
    return table


def written(value: Any) -> str:
    """A figure of `figures_of` for a table; "" for none."""
    if value is None:
        return ""
    return str(Span(**value)) if isinstance(value, dict) else f"{value:.3f}"


def poems_table(poems: Mapping[str, Poems], count: int = 8) -> Table:
    """The first few poems side by side, a line of verse on a line."""
    table = Table(title="Eight first lines", title_justify="left", show_lines=True)
    for name in poems:
        table.add_column(TITLES.get(name, name), overflow="fold")
    for row in list(zip(*(side.whole for side in poems.values()), strict=True))[:count]:
        table.add_row(*("\n".join(map(escape, verses(text))) for text in row))
    return table


def verses(text: str) -> list[str]:
    """The lines of a poem with their marks, fit for a terminal."""
    return [visible(line + mark.strip()) for line, mark in quatrain_lines(text)]


def write_poems(path: Path, poems: Mapping[str, Poems]) -> None:
    """A page of Markdown with all poems side by side.

    :raises StorageError: if it cannot be written.
    """
    names = [TITLES.get(name, name) for name in poems]
    lines = ["# Quatrains before and after", "", f"| {' | '.join(names)} |"]
    lines.append("|" + " --- |" * len(names))
    for row in zip(*(side.whole for side in poems.values()), strict=True):
        cells = ["<br>".join(verses(text)).replace("|", "\\|") for text in row]
        lines.append(f"| {' | '.join(cells)} |")
    write_text_atomically(path, "\n".join(lines) + "\n")
