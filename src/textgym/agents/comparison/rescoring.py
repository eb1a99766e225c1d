"""Scoring stored texts with other reward models, without training.

All texts are scored before anything is written. What a judge says then stands beside the record
(`later_scores`), which stays as it was.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from textgym.agents.comparison.derived_cells import reward_of
from textgym.agents.comparison.found_runs import FoundRun
from textgym.agents.runs.held_out import HeldOutText, Judge
from textgym.agents.runs.later_scores import (
    LaterScores,
    read_later_scores,
    texts_digest,
    write_later_scores,
)
from textgym.envs.replies import DIALOGUE_COLUMNS
from textgym.errors import InputError
from textgym.reward_arguments import TEXTS, TOKEN_IDS, meanings, signature_of
from textgym.reward_models.composition import score_part
from textgym.rewards import Reward, reward_name
from textgym.states import state_of
from textgym.storage import json_text

_PROBE = 32  # texts that are scored twice, to see whether a score depends on what came before
_TOLERANCE = 1e-4  # of a score's size; a network rounds otherwise in another batch


@dataclass(frozen=True)
class Rescored:
    """What a judge said of a run.

    :param start, end: mean score of the first and the last evaluation; NaN where it said nothing.
    """

    run: str
    judge: str
    start: float
    end: float


def rescore_runs(
    runs: Sequence[FoundRun],
    judges: Sequence[tuple[Reward, Judge]],
    *,
    force: bool = False,
) -> list[Rescored]:
    """Have reward models score all held-out texts of runs, and write down what they say.

    :param judges: each with its role and spec.
    :param force: score again what an earlier call scored.
    :raises InputError: before anything is written: for a run without a record or still going on, a
        judge that is there already, that a run is trained on, that keeps a running state, or that
        asks for what the record does not hold.
    :raises RewardError: from a judge.
    :raises StorageError: if scores cannot be written.
    """
    for run in runs:
        _check_run(run)
    named = _named(judges, runs)
    for name, (_, judge) in named.items():
        _check_role(name, judge, runs)
        for run in runs:
            _check_new(name, run, force=force)
    for name, (reward, _) in named.items():
        for run in runs:
            _check_asks(name, reward, run)
        check_stateless(name, reward, runs[0])
    scored = {
        run.name: [
            row
            for name, (reward, judge) in named.items()
            for row in _rows(name, reward, judge, run)
        ]
        for run in runs
    }
    for run in runs:
        write_later_scores(run.directory, scored[run.name])
    return [
        Rescored(run.name, name, _mean(own[0].scores), _mean(own[-1].scores))
        for run in runs
        for name in named
        if (own := [row for row in scored[run.name] if row.judge == name])
    ]


def check_stateless(name: str, reward: Reward, run: FoundRun) -> None:
    """Raises if what a reward model says of a text depends on what it scored before.

    :raises InputError: naming it.
    """
    assert run.record is not None
    texts = list(run.record.texts[run.record.steps[-1]])[:_PROBE]
    half = texts[len(texts) // 2 :][::-1]
    before = json_text(state_of(reward, name))
    first, again = ask(reward, texts, run), ask(reward, half, run)
    is_same = np.allclose(
        first[len(texts) // 2 :][::-1], again, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True
    )
    if not is_same or json_text(state_of(reward, name)) != before:
        raise InputError(
            f"reward model {name!r} keeps a running state, or draws: it gives a text another score "
            "each time, and stored texts none that could be compared; freeze it first"
        )


def ask(reward: Reward, texts: Sequence[HeldOutText], run: FoundRun) -> Any:
    """Scores, float64 `[text]`, NaN where it says nothing; with the columns of the prompts."""
    assert run.record is not None
    rows = [run.record.prompts[text.prompt] for text in texts]
    columns = {name: [row.get(name) for row in rows] for name in _columns(run)}
    prompts = [str(row["prompt"]) for row in rows]
    return score_part(reward, prompts, [text.completion for text in texts], columns).scores


def _columns(run: FoundRun) -> list[str]:
    rows = () if run.record is None else run.record.prompts
    return [name for name in dict.fromkeys(key for row in rows for key in row) if name != "prompt"]


def _check_run(run: FoundRun) -> None:
    if run.record is None or not run.record.steps:
        raise InputError(
            f"{run.name}: has no held-out texts to score (train with --evaluations); leave it out"
        )
    if run.is_going_on:
        raise InputError(f"{run.name}: is still going on; score it when it is at its end")


def _named(
    judges: Sequence[tuple[Reward, Judge]], runs: Sequence[FoundRun]
) -> dict[str, tuple[Reward, Judge]]:
    """Judges by their own names; one whose name another judge has, by what was written for it."""
    named: dict[str, tuple[Reward, Judge]] = {}
    for reward, judge in judges:
        name = reward_name(reward)
        there = [_judges(run)[name].spec for run in runs if name in _judges(run)]
        is_another = any(judge.spec and spec and spec != judge.spec for spec in there)
        if is_another or (name in named and judge.spec):
            name = judge.spec
        if name in named:
            raise InputError(f"{name} is given twice: leave one out")
        named[name] = (reward, judge)
    return named


def _judges(run: FoundRun) -> Mapping[str, Judge]:
    return {} if run.record is None else run.record.settings.judges


def _check_role(name: str, judge: Judge, runs: Sequence[FoundRun]) -> None:
    for run in runs:
        if judge.role == "gold" and name == reward_of(run):
            raise InputError(
                f"{name} is what {run.name} is trained on: a gold judge must be independent of "
                "what it judges; give it as --reward, or leave the run out"
            )


def _check_new(name: str, run: FoundRun, *, force: bool) -> None:
    if name not in _judges(run):
        return
    assert run.record is not None
    later = [row.step for row in read_later_scores(run.directory) if row.judge == name]
    if not later:
        raise InputError(f"{run.name}: {name} scored these texts in training; leave it out")
    if not force and {*later} >= {*run.record.steps}:
        raise InputError(f"{run.name}: {name} has scored these texts; --force scores them again")


def _check_asks(name: str, reward: Reward, run: FoundRun) -> None:
    """Raises unless the record holds what a reward model asks for.

    :raises InputError: naming it, and what it asks for.
    """
    signature = signature_of(reward)
    absent = [n for n in (TOKEN_IDS, *DIALOGUE_COLUMNS) if n in signature.required]
    absent = [n for n in absent if n not in _columns(run)]
    if absent:
        raise InputError(
            f"reward model {name!r} asks for {' and '.join(absent)}, which no record holds: stored "
            "texts can be scored by their prompts, completions and columns alone"
        )
    try:
        meanings(signature, {*TEXTS, *_columns(run)})
    except InputError as error:
        raise InputError(f"{run.name}: reward model {name!r} {error}") from None


def _rows(name: str, reward: Reward, judge: Judge, run: FoundRun) -> list[LaterScores]:
    assert run.record is not None
    rows = []
    for step in run.record.steps:
        texts = run.record.texts[step]
        scores = [None if math.isnan(s) else float(s) for s in ask(reward, texts, run)]
        digest = texts_digest([text.completion for text in texts])
        rows.append(LaterScores(name, judge.role, judge.spec, step, digest, scores))
    return rows


def _mean(scores: Sequence[float | None]) -> float:
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else math.nan
