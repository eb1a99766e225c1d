"""Texts for an audit: a file of people's judgements, a task's references, the bundled reviews."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from textgym.envs.task import Task
from textgym.envs.tasks.movie_reviews import rated_continuations
from textgym.envs.texts.labelled_rows import Preference, RatedCompletion, Rows, read_ratings
from textgym.errors import InputError
from textgym.reward_models.auditing.texts import (
    AuditTexts,
    of_preferences,
    of_ratings,
    of_references,
)

BUNDLED = "textgym/MovieReview-v0"
REFERENCES = ("reference", "completion", "answer", "solution", "target")  # columns of prompts


def human_texts(
    task: Task, pairs: Rows | None, *, most: int, seed: int
) -> tuple[AuditTexts, str] | None:
    """Texts with judgements, and what they are, in words; None where the task has none.

    :param pairs: preferences or rated texts of the user's own.
    :raises InputError: for a file that holds neither, or too few.
    """
    rng = np.random.default_rng(seed)
    if pairs is not None:
        rows = list(read_ratings(pairs))
        texts = _of_rows(rows, rng, most)
        where = str(pairs) if not isinstance(pairs, list | tuple) else "rows given in Python"
        return texts, f"{len(texts)} texts of {where}"
    prompts, references, columns = _references(task)
    if prompts:
        texts = of_references(prompts, references, columns, rng, most=most)
        return texts, f"{len(texts)} texts made of the references of {task.id}"
    if task.id == BUNDLED:
        texts = of_ratings(rated_continuations("validation"), rng, most=most)
        return texts, f"{len(texts)} rated reviews of split validation"
    return None


def _of_rows(
    rows: list[RatedCompletion | Preference], rng: np.random.Generator, most: int
) -> AuditTexts:
    rated = [row for row in rows if isinstance(row, RatedCompletion)]
    if rated:
        return of_ratings(rated, rng, most=most)
    return of_preferences([row for row in rows if isinstance(row, Preference)], rng, most=most)


def _references(task: Task) -> tuple[list[str], list[str], Mapping[str, list[Any]]]:
    """The prompts that have a text in one of `REFERENCES`, the text, and all their columns."""
    source = task.prompt_source()
    prompts = source.all() if len(source) else []
    name = next((n for n in REFERENCES if any(n in p.columns for p in prompts)), None)
    if name is None:
        return [], [], {}
    rows = [p for p in prompts if isinstance(p.columns.get(name), str) and p.columns[name]]
    if not rows:
        raise InputError(f"{task.id}: the column {name!r} of its prompts holds no text: give pairs")
    columns = {column: [row.columns.get(column) for row in rows] for column in rows[0].columns}
    return [row.text for row in rows], [row.columns[name] for row in rows], columns
