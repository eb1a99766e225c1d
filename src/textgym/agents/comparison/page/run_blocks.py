"""Texts, scores and tokens of the runs, as the page holds them: columns of short strings.

A run is a block of its own, compressed by itself, which the page opens when it is looked at.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from textgym.agents.comparison.page.packing import pack
from textgym.agents.comparison.study import Study, StudyRun, kl_of, scores_of
from textgym.agents.runs.held_out import HeldOutText

MEGABYTE = 1_000_000
TEMPLATE_BYTES = 250_000  # page without runs: template, overview
LEVELS = 8  # of a token's colour, each way
REWARD = "reward:"  # and the judge: the kind of its tokens' values
LONG = 80  # characters of a token that one letter can say


@dataclass(frozen=True)
class Blocks:
    """What of a study's texts the page holds.

    :param packed: by index of the run in `study.runs`; the others are left out.
    :param kept: by index of the run, which of its evaluations.
    :param scales: by kind ("ratio", or "reward:" and a judge), the value of the strongest colour.
    :param left_out: a line for the reader about each thing that is not there.
    """

    packed: dict[int, str]
    kept: dict[int, list[int]]
    scales: dict[str, float]
    left_out: list[str] = field(default_factory=list)


def fit_blocks(study: Study, limit: int) -> Blocks:
    """As many runs as a page of `limit` bytes can hold, the first seeds of all cells first.

    Where not even those fit, evaluations between start and end are left out, every second one at
    a time.
    """
    scales = token_scales(study)
    order = _by_seed(study)
    every = 1
    while True:
        kept = {k: thinned(len(steps_of(study.runs[k])), every) for k in order}
        packed: dict[int, str] = {}
        free = limit - TEMPLATE_BYTES
        n_first = len({run.cell for run in study.runs})
        for index in order:
            block = pack(run_block(study, study.runs[index], kept[index], scales))
            free -= len(block)
            if free < 0:
                break
            packed[index] = block
        can_thin = any(len(kept[index]) > 2 for index in order)
        if len(packed) >= min(n_first, len(order)) or not can_thin:
            break
        every *= 2
    lines = []
    missing = [study.runs[index] for index in order if index not in packed]
    if missing:
        names = ", ".join(f"{run.cell} seed {run.seed}" for run in missing)
        lines.append(
            f"For its size the page leaves out the texts of {len(missing)} of {len(order)} runs "
            f"(charts and matrix have them all): {names}"
        )
    if every > 1:
        lines.append(f"For its size the page holds one evaluation in {every}, and the last")
    return Blocks(packed, kept, scales, lines)


def run_block(
    study: Study, run: StudyRun, kept: Sequence[int], scales: dict[str, float]
) -> dict[str, Any]:
    """A run's texts and scores, each `[evaluation][prompt]`; numbers have five digits.

    `ends` and each kind of `tokens` are a string a text, one letter a token (`letters_of_ends`,
    `letters_of_levels`).
    """
    if run.record is None:
        return {"texts": [sample_texts(study, run)[k] for k in kept]}
    rows = [run.record.texts[run.record.steps[k]] for k in kept]
    judges = list(study.judges)
    return {
        "texts": [[text.completion for text in texts] for texts in rows],
        "scores": {j: short_numbers(scores_of(run, j)[list(kept)].tolist()) for j in judges},
        "kl": short_numbers(kl_of(run)[list(kept)].tolist()),
        "length": [[text.length for text in texts] for texts in rows],
        "finish": [[text.finish_reason for text in texts] for texts in rows],
        "ends": [[letters_of_ends(text.token_ends) for text in texts] for texts in rows],
        "tokens": {
            kind: [
                letters_of_levels([_values(text, kind) for text in texts], scale) for texts in rows
            ]
            for kind, scale in scales.items()
        },
    }


def steps_of(run: StudyRun) -> list[int]:
    """The steps at which a run wrote what the page shows."""
    if run.record is not None:
        return run.record.steps
    return sorted({int(row["step"]) for row in run.samples})


def shown_prompts(study: Study) -> list[str]:
    """The held-out prompts; where no run has a record, the prompts of the runs' samples."""
    if any(run.record for run in study.runs):
        return [str(row["prompt"]) for row in study.prompts]
    return list(dict.fromkeys(str(row["prompt"]) for run in study.runs for row in run.samples))


def sample_texts(study: Study, run: StudyRun) -> list[list[str]]:
    """`[evaluation][prompt]`, what a run without a record wrote on its samples' prompts."""
    found = {(row["step"], row["prompt"]): str(row["completion"]) for row in run.samples}
    prompts = shown_prompts(study)
    return [[found.get((step, prompt), "") for prompt in prompts] for step in steps_of(run)]


def thinned(n: int, every: int) -> list[int]:
    """Every `every`-th of `n` evaluations, and the last."""
    return sorted({*range(0, n, every), n - 1}) if n else []


def token_scales(study: Study) -> dict[str, float]:
    """Which value gets the strongest colour: the 98th percentile of the sizes, all runs alike."""
    values: dict[str, list[float]] = {"ratio": []}
    for run in study.runs:
        for texts in run.record.texts.values() if run.record else ():
            for text in texts:
                for kind in ("ratio", *(REWARD + j for j in text.token_rewards)):
                    if kind == "ratio" or kind.removeprefix(REWARD) in study.judges:
                        values.setdefault(kind, []).extend(_values(text, kind))
    return {name: _scale(sizes) for name, sizes in values.items()}


def letters_of_ends(ends: Sequence[int]) -> str:
    """Lengths of the tokens in characters: `chr(40 + n)`, and "x" for each 80 before it."""
    sizes = [max(0, end - start) for start, end in pairwise([0, *ends])]
    if max(sizes, default=0) < LONG:
        return bytes([40 + size for size in sizes]).decode("ascii")
    return "".join("x" * (size // LONG) + chr(40 + size % LONG) for size in sizes)


def letters_of_levels(values: Sequence[Sequence[float]], scale: float) -> list[str]:
    """Values as one of 17 letters, A for -scale or less, I for 0, Q for scale or more; "." for NaN.

    :param values: of the tokens of each text.
    :param scale: greater than 0.
    """
    parts = np.array([value for tokens in values for value in tokens], dtype=np.float64)
    levels = np.clip(np.rint(parts * (LEVELS / scale)), -LEVELS, LEVELS) + ord("I")
    letters = np.where(np.isnan(parts), ord("."), levels).astype(np.uint8).tobytes().decode("ascii")
    ends = np.cumsum([0, *map(len, values)]).tolist()
    return [letters[start:end] for start, end in pairwise(ends)]


def short_numbers(value: Any) -> Any:
    """Numbers, in lists or not, to five digits; those that are not finite become None."""
    if isinstance(value, list):
        return [short_numbers(part) for part in value]
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.5g}")
    return int(short) if short.is_integer() else short


def _values(text: HeldOutText, kind: str) -> Sequence[float]:
    if kind != "ratio":
        return text.token_rewards.get(kind.removeprefix(REWARD), ())
    pairs = zip(text.log_probs, text.reference_log_probs, strict=True)
    return [float(own - other) for own, other in pairs]


def _scale(values: Sequence[float]) -> float:
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    sizes = sizes[np.isfinite(sizes)]
    scale = float(np.percentile(sizes, 98)) if len(sizes) else 0.0
    return float(f"{scale:.3g}") or 1.0


def _by_seed(study: Study) -> list[int]:
    """Indices of the runs that have texts: the first of every cell, then the second of every one.

    Where any run has held-out evaluations, those without are left out.
    """
    has_records = any(run.record for run in study.runs)
    places = {id(run): index for index, run in enumerate(study.runs)}
    ranked = []
    for c, cell in enumerate(study.cells):
        runs = [r for r in study.runs_of(cell.label) if r.record or not has_records]
        ranked += [(k, c, places[id(run)]) for k, run in enumerate(runs) if steps_of(run)]
    return [index for _, _, index in sorted(ranked)]
