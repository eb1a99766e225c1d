"""Two runs against each other: settings, final figures, held-out scores, texts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.agents.comparison.aggregates import mean
from textgym.agents.comparison.derived_cells import reward_of
from textgym.agents.comparison.found_runs import FoundRun
from textgym.agents.comparison.intervals import interval_of
from textgym.agents.runs.figures import Figure, figures
from textgym.agents.runs.held_out import HeldOutText, Role
from textgym.errors import InputError, unknown_name
from textgym.storage import json_text
from textgym.text_metrics.word_diff import likeness

_NOT_COMPARED = frozenset({"out", "verb"})
_DIGITS = 8  # of a digest


@dataclass(frozen=True)
class Setting:
    """A setting that differs; None where a run has none."""

    name: str
    a: str | None
    b: str | None


@dataclass(frozen=True)
class FinalFigure:
    """The last value of a figure in both runs; NaN where one has none.

    :param better: "higher", "lower", or "" where neither is.
    """

    tag: str
    title: str
    better: str
    a: float
    b: float


@dataclass(frozen=True)
class ScoreDifference:
    """What a judge says of the last held-out texts of two runs.

    :param a, b: mean scores over the prompts that it speaks of in both.
    :param difference: b − a, paired by prompt.
    :param low, high: its 95% interval over the prompts; NaN with fewer than two.
    """

    judge: str
    role: Role
    a: float
    b: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class TextPair:
    """What two runs wrote last on a prompt; scores are None where there is none."""

    prompt: str
    a: str
    b: str
    score_a: float | None = None
    score_b: float | None = None


@dataclass(frozen=True)
class RunDifference:
    """How two runs differ.

    :param steps: completion tokens at which their last texts were written.
    :param judge: by whose scores the texts are sorted; "" where by their words.
    :param texts: of the prompts that both have, the most different first.
    :param notes: what a reader must know.
    """

    names: tuple[str, str]
    steps: tuple[int, int]
    settings: Sequence[Setting]
    figures: Sequence[FinalFigure]
    scores: Sequence[ScoreDifference]
    judge: str
    texts: Sequence[TextPair]
    notes: Sequence[str] = ()


def compare_runs(a: FoundRun, b: FoundRun, *, judge: str | None = None) -> RunDifference:
    """How two runs differ: the second against the first.

    :param judge: whose scores sort the texts; None: the first gold judge that scored both, else
        the first of all, else the share of words that both texts have.
    :raises InputError: for runs of different environments, and for a judge that did not score both.
    """
    if a.config.get("env") != b.config.get("env"):
        raise InputError(
            f"runs of different environments cannot be compared ({a.name}: {a.config.get('env')}; "
            f"{b.name}: {b.config.get('env')})"
        )
    pairs, steps, notes = _pairs(a, b)
    judges = _common_judges(a, b)
    if judge is not None and judge not in judges:
        raise unknown_name("judge of both runs", judge, judges)
    if judge is None:
        judge = next((name for name, role in judges.items() if role == "gold"), "")
        judge = judge or next(iter(judges), "")
    return RunDifference(
        names=(a.name, b.name),
        steps=steps,
        settings=differing_settings(a, b),
        figures=final_figures(a.figures, b.figures),
        scores=[_score_difference(pairs, name, role) for name, role in judges.items()],
        judge=judge,
        texts=_most_different(pairs, judge),
        notes=notes,
    )


def differing_settings(a: FoundRun, b: FoundRun) -> list[Setting]:
    """What two runs were made with, where it differs; a path counts by what it held."""
    one, two = _shown(a), _shown(b)
    found = []
    for name in dict.fromkeys([*one, *two]):
        if name in _NOT_COMPARED or one.get(name) == two.get(name):
            continue
        digests = a.inputs.get(name), b.inputs.get(name)
        if digests[0] is not None and digests[0] == digests[1]:
            continue
        texts = [
            value if digest is None or value is None else f"{value} ({digest[0][:_DIGITS]})"
            for value, digest in zip((one.get(name), two.get(name)), digests, strict=True)
        ]
        found.append(Setting(name, *texts))
    return found


def final_figures(a: Mapping[str, float], b: Mapping[str, float]) -> list[FinalFigure]:
    """The figures that docs/metrics.md explains and either run has, in its order."""
    found: dict[str, FinalFigure] = {}
    for figure in figures():
        for tag in (tag for tag in dict.fromkeys([*a, *b]) if _is_of(tag, figure)):
            title = figure.title.replace("NAME", tag.removeprefix(figure.tag.partition("NAME")[0]))
            values = a.get(tag, math.nan), b.get(tag, math.nan)
            found.setdefault(tag, FinalFigure(tag, title, figure.better, *values))
    return list(found.values())


def _is_of(tag: str, figure: Figure) -> bool:
    before, name, after = figure.tag.partition("NAME")
    if not name:
        return tag == figure.tag
    return tag.startswith(before) and tag.endswith(after) and len(tag) > len(before + after)


def _shown(run: FoundRun) -> dict[str, str | None]:
    """Settings as texts, fields of the task among them, and what each path held."""
    fields = run.config.get("env_kwargs")
    config = {k: v for k, v in run.config.items() if k != "env_kwargs"}
    config |= fields if isinstance(fields, Mapping) else {}
    return {
        name: None if value is None else value if isinstance(value, str) else json_text(value)
        for name, value in config.items()
    }


Pair = tuple[str, HeldOutText, HeldOutText]


def _pairs(a: FoundRun, b: FoundRun) -> tuple[list[Pair], tuple[int, int], list[str]]:
    """The last texts of two runs on the prompts that both have."""
    notes = [f"{run.name}: {_not_whole(run)}" for run in (a, b) if not run.is_whole]
    without = [run.name for run in (a, b) if run.record is None or not run.record.steps]
    one, two = (_samples(a), _samples(b)) if without else (_held_out(a), _held_out(b))
    if without:
        names = " and ".join(without)
        notes.append(f"{names}: no held-out evaluations, so sample texts are shown")
    pairs = [(one[key][0], one[key][1], two[key][1]) for key in one if key in two]
    most = max(len(one), len(two))
    if len(pairs) < most:
        notes.append(f"{most - len(pairs)} of {most} prompts are not in both, and left out")
    steps = [max((text.step for _, text in own.values()), default=0) for own in (one, two)]
    return pairs, (steps[0], steps[1]), notes


def _not_whole(run: FoundRun) -> str:
    return "still going on" if run.is_going_on else f"broke off at {run.step:,} tokens"


def _held_out(run: FoundRun) -> dict[str, tuple[str, HeldOutText]]:
    """The last texts with their prompts, by prompt and columns."""
    assert run.record is not None
    rows = run.record.prompts
    texts = run.record.texts[run.record.steps[-1]]
    return {
        json_text(dict(rows[text.prompt])): (str(rows[text.prompt]["prompt"]), text)
        for text in texts
    }


def _samples(run: FoundRun) -> dict[str, tuple[str, HeldOutText]]:
    """The last sample texts, by prompt."""
    rows = {str(row["prompt"]): row for row in run.samples}
    return {
        prompt: (prompt, HeldOutText(row["step"], k, row["completion"], "", (), (), (), 0.0, {}))
        for k, (prompt, row) in enumerate(rows.items())
    }


def _common_judges(a: FoundRun, b: FoundRun) -> dict[str, Role]:
    """Role of every judge that scored both, gold ones first; "reward" for what one trains on."""
    if a.record is None or b.record is None:
        return {}
    one, two = a.record.settings.judges, b.record.settings.judges
    paid = {reward_of(a), reward_of(b)}
    roles: dict[str, Role] = {
        name: "reward" if name in paid else judge.role for name, judge in one.items() if name in two
    }
    order = ("gold", "reward", "shadow")
    return dict(sorted(roles.items(), key=lambda item: order.index(item[1])))


def _score_difference(pairs: Sequence[Pair], judge: str, role: Role) -> ScoreDifference:
    scores = [[x.scores.get(judge), y.scores.get(judge)] for _, x, y in pairs]
    one, two = np.array(scores, dtype=np.float64).reshape(-1, 2).T
    one, two = (values[~np.isnan(one + two)] for values in (one, two))
    if not len(one):
        nothing = math.nan
        return ScoreDifference(judge, role, nothing, nothing, nothing, nothing, nothing)
    a, b = (mean(values[None]).value for values in (one, two))
    found = interval_of(mean((two - one)[None]))
    return ScoreDifference(judge, role, a, b, found.value, found.low, found.high)


def _most_different(pairs: Sequence[Pair], judge: str) -> list[TextPair]:
    def distance(pair: Pair) -> Any:
        _, x, y = pair
        one, two = x.scores.get(judge), y.scores.get(judge)
        by_score = 0.0 if one is None or two is None else abs(two - one)
        return -by_score, likeness(x.completion, y.completion)

    return [
        TextPair(prompt, x.completion, y.completion, x.scores.get(judge), y.scores.get(judge))
        for prompt, x, y in sorted(pairs, key=distance)
    ]
