"""Scores that other judges gave the held-out texts of a run after its training.

They stand in `held_out_scores.jsonl` beside the record, which is never written again: one row for
each judge and evaluation, with a digest of the texts that were scored, so that no score is ever
read as another text's.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from textgym.json_lines import read_rows
from textgym.run_files import HELD_OUT_SCORES
from textgym.saved_fields import SavedFields
from textgym.storage import json_text, run_lock, write_text_atomically


@dataclass(frozen=True)
class LaterScores:
    """What a judge says of the texts of one evaluation.

    :param role: "shadow", or "gold" for an independent judge.
    :param spec: what it was called at the front door; "" for an object.
    :param texts_sha256: of the completions (`texts_digest`).
    :param scores: in the order of the prompts; None where it says nothing.
    """

    judge: str
    role: str
    spec: str
    step: int
    texts_sha256: str
    scores: Sequence[float | None]


def texts_digest(completions: Sequence[str]) -> str:
    """SHA-256 of the texts of an evaluation, in the order of the prompts."""
    return hashlib.sha256(json_text(list(completions)).encode()).hexdigest()


def read_later_scores(run: Path) -> list[LaterScores]:
    """The rows of a run, by judge and step; of two for the same the later counts.

    :param run: its directory.
    :raises InputError: for a file that holds something else.
    """
    path = run / HELD_OUT_SCORES
    rows = [_scores(row, path) for row in read_rows(path)] if path.is_file() else []
    return list({(row.judge, row.step): row for row in rows}.values())


def write_later_scores(run: Path, added: Sequence[LaterScores]) -> None:
    """Add rows in one step; what stood there of the same judges goes.

    :raises StorageError: if they cannot be written, or somebody else writes in the run.
    """
    with run_lock(run):
        judges = {row.judge for row in added}
        kept = [row for row in read_later_scores(run) if row.judge not in judges]
        lines = [json_text(asdict(row)) + "\n" for row in (*kept, *added)]
        write_text_atomically(run / HELD_OUT_SCORES, "".join(lines))


def scores_by_step(
    rows: Sequence[LaterScores], texts: Mapping[int, Sequence[str]]
) -> dict[int, dict[str, Sequence[float | None]]]:
    """`{step: {judge: scores}}` of the rows that speak of these texts.

    :param texts: completions of each evaluation, in the order of the prompts.
    """
    digests = {step: texts_digest(completions) for step, completions in texts.items()}
    found: dict[int, dict[str, Sequence[float | None]]] = {}
    for row in rows:
        is_of_these = digests.get(row.step) == row.texts_sha256
        if is_of_these and len(row.scores) == len(texts[row.step]):
            found.setdefault(row.step, {})[row.judge] = row.scores
    return found


def _scores(content: Any, path: Path) -> LaterScores:
    fields = SavedFields(content, path)
    scores = fields.items("scores")
    for score in scores:
        is_number = isinstance(score, int | float) and not isinstance(score, bool)
        if score is not None and not (is_number and math.isfinite(score)):
            raise fields.error("scores", "a list of numbers")
    role = fields.text("role")
    if role not in ("shadow", "gold"):
        raise fields.error("role", "shadow or gold")
    names = ("judge", "spec", "texts_sha256")
    return LaterScores(
        **{name: fields.text(name) for name in names},
        role=role,
        step=fields.whole("step"),
        scores=scores,
    )
