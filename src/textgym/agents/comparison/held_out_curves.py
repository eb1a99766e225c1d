"""The figures of held-out evaluations over training: one curve a run, one band a cell.

The tags are TensorBoard's; docs/comparing.md explains each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from textgym.agents.comparison.intervals import t_quantile
from textgym.agents.comparison.study import Floats, Study, StudyRun, kl_of, scores_of
from textgym.agents.runs.held_out import Role, perplexity
from textgym.text_metrics.metrics import distinct_n

KL, LENGTH = "held_out/kl", "held_out/length"
DISTINCT_2, PERPLEXITY = "held_out/distinct_2", "held_out/perplexity"
_JUDGES = "held_out/judges/"
ROLES: tuple[Role, ...] = ("gold", "reward", "shadow")


@dataclass(frozen=True)
class Curves:
    """Figures over the evaluations of a run.

    :param steps: completion tokens, `[evaluation]`.
    :param values: by tag, `[evaluation]`; NaN where there is none.
    """

    steps: Sequence[int]
    values: Mapping[str, Floats]


@dataclass(frozen=True)
class Band:
    """A figure of a cell: the mean over its seeds and a 95% interval, each `[evaluation]`.

    :param steps: completion tokens, the mean over the seeds.
    :param lower: NaN with a single seed, like `upper`.
    """

    steps: Sequence[int]
    mean: Floats
    lower: Floats
    upper: Floats


def judge_tag(judge: str) -> str:
    """The tag of a judge's mean score."""
    return f"{_JUDGES}{judge}"


def curve_tags(study: Study) -> list[str]:
    """All tags: the gold judges, the texts' figures, the rewards, those that only look on."""
    of = {role: [judge_tag(j) for j, r in study.judges.items() if r == role] for role in ROLES}
    return [*of["gold"], KL, DISTINCT_2, LENGTH, PERPLEXITY, *of["reward"], *of["shadow"]]


def curves_of(run: StudyRun, judges: Sequence[str]) -> Curves:
    """The figures of a run that has a record of held-out evaluations.

    Scores, KL and length are means over the prompts, for scores over those that the judge speaks
    of; distinct-2 and the perplexity under the start are of all texts together.
    """
    assert run.record is not None
    steps = run.record.steps
    evaluations = [run.record.texts[step] for step in steps]
    values = {judge_tag(judge): mean_of_known(scores_of(run, judge), 1) for judge in judges}
    values[KL] = kl_of(run).mean(axis=1)
    values[LENGTH] = np.array([np.mean([t.length for t in texts]) for texts in evaluations])
    values[DISTINCT_2] = np.array([distinct_n(t.completion for t in e) for e in evaluations])
    values[PERPLEXITY] = np.array([perplexity(texts) for texts in evaluations])
    return Curves(steps, values)


def band_of(curves: Sequence[Curves], tag: str) -> Band:
    """Mean and 95% t-interval over the seeds of a cell, evaluation by evaluation.

    The k-th evaluations of the seeds belong together; those that not every seed has are left out.

    :param curves: one a seed.
    """
    n = min(len(curve.steps) for curve in curves)
    values = np.array([curve.values[tag][:n] for curve in curves])
    steps = np.array([curve.steps[:n] for curve in curves]).mean(axis=0)
    mean, lower, upper = seed_interval(values)
    return Band([round(step) for step in steps], mean, lower, upper)


def seed_interval(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Mean, lower and upper end of the 95% t-interval over the first axis, the seeds.

    The ends are NaN with a single seed.
    """
    n = len(values)
    mean = values.mean(axis=0)
    if n < 2:
        nothing = np.full_like(mean, np.nan)
        return mean, nothing, nothing
    half = t_quantile(0.05, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def mean_of_known(values: Floats, axis: int) -> Floats:
    """Mean over an axis of what is not NaN; NaN where everything is."""
    known = ~np.isnan(values)
    total, count = np.where(known, values, 0.0).sum(axis=axis), known.sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
