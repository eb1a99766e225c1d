"""What the page knows before it opens any text: cells, runs, curves, matrix, configurations."""

import hashlib
from collections.abc import Collection, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

from textgym.agents.comparison.cross_scores import cross_scores, judge_spread
from textgym.agents.comparison.held_out_curves import mean_of_known, seed_interval
from textgym.agents.comparison.page.run_blocks import (
    Blocks,
    short_numbers,
    shown_prompts,
    steps_of,
)
from textgym.agents.comparison.study import Study, StudyRun, kl_of, scores_of
from textgym.storage import json_text

# Settings that say where and how a run was made and nothing about its training, and `shadow`, which
# follows from the rest: the rewards of the other cells look on.
PLACES = (
    "seed",
    "out",
    "verb",
    "checkpoint_seconds",
    "checkpoint_tokens",
    "keep",
    "tensorboard",
    "shadow",
)


def overview_of(study: Study, blocks: Blocks, verdict: dict[str, Any] | None) -> dict[str, Any]:
    """All of the page but texts and scores, as JSON values.

    :param verdict: what the page says of it, as `verdict_block` makes it.
    """
    places = {cell.label: index for index, cell in enumerate(study.cells)}
    starts, start_of = _starts(study, blocks.packed)
    runs = []
    for index, run in enumerate(study.runs):
        kept = blocks.kept.get(index, [])
        steps = steps_of(run)
        runs.append(
            {
                "cell": places[run.cell],
                "seed": run.seed,
                "name": run.name,
                "steps": [steps[k] for k in kept],
                "start": start_of[index],
                "seconds": short_numbers(run.seconds),
                "held": index in blocks.packed,
            }
        )
    return {
        "version": version("textgym"),
        "title": study.title,
        "env": study.env,
        "prompts": shown_prompts(study),
        "judges": [
            {"name": name, "role": role, **_start_scores(study, name)}
            for name, role in study.judges.items()
        ],
        "cells": [
            {"label": cell.label, "reward": cell.reward, "settings": _plain(cell.settings)}
            for cell in study.cells
        ],
        "runs": runs,
        "starts": starts,
        "scales": blocks.scales,
        "curves": curves_block(study),
        "matrix": matrix_block(study),
        "configurations": configuration_differences(study),
        "notes": [*study.notes, *blocks.left_out],
        "failures": [
            {"cell": f.cell, "seed": f.seed, "name": f.name, "reason": f.reason}
            for f in study.failures
        ],
        "verdict": verdict,
    }


def curves_block(study: Study) -> dict[str, list[dict[str, Any]]]:
    """By judge, for each cell: mean and 95% interval over seeds, and the seeds, by evaluation.

    `tokens` are completion tokens, `distance` is the square root of the mean KL to the start.
    """
    blocks: dict[str, list[dict[str, Any]]] = {judge: [] for judge in study.judges}
    for index, cell in enumerate(study.cells):
        runs = [run for run in study.runs_of(cell.label) if run.record and run.record.steps]
        if not runs:
            continue
        n = min(len(steps_of(run)) for run in runs)  # evaluations that every seed has
        kl = np.array([kl_of(run)[:n].mean(axis=1) for run in runs]).mean(axis=0)
        for judge in study.judges:
            seeds = np.array([mean_of_known(scores_of(run, judge)[:n], 1) for run in runs])
            mean, low, high = seed_interval(seeds)
            block = {
                "tokens": np.mean([steps_of(run)[:n] for run in runs], axis=0).round().tolist(),
                "distance": np.sqrt(np.maximum(kl, 0)).tolist(),
                "mean": mean.tolist(),
                "low": low.tolist(),
                "high": high.tolist(),
                "seeds": seeds.tolist(),
            }
            numbers = {key: short_numbers(value) for key, value in block.items()}
            blocks[judge].append({"cell": index, **numbers})
    return blocks


def matrix_block(study: Study) -> dict[str, Any] | None:
    """The cross-score matrix, with indices of cells and names of judges."""
    matrix = cross_scores(study)
    if matrix is None:
        return None
    labels = [cell.label for cell in study.cells]
    return {
        "cells": [labels.index(cell.label) for cell in matrix.cells],
        "judges": list(matrix.judges),
        "mean": short_numbers(matrix.mean.tolist()),
        "low": short_numbers(matrix.lower.tolist()),
        "high": short_numbers(matrix.upper.tolist()),
    }


def configuration_differences(study: Study) -> list[dict[str, Any]]:
    """The settings in which the cells' runs differ: `key`, and `values`, one a cell.

    None where a cell has no such setting; seeds and places are passed over.
    """
    by_cell = [[_flat(run.config) for run in study.runs_of(cell.label)] for cell in study.cells]
    keys = dict.fromkeys(key for cell in by_cell for config in cell for key in config)
    rows = []
    for key in keys:
        if key.split(".")[0] in PLACES:
            continue
        values = [_several([config.get(key) for config in configs]) for configs in by_cell]
        if len({json_text(v, sort_keys=True) for v in values}) > 1:
            rows.append({"key": key, "values": values})
    return rows


def _several(values: list[Any]) -> str | None:
    texts = dict.fromkeys("none" if v is None else str(v) for v in values)
    return " | ".join(texts) if values and any(v is not None for v in values) else None


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{before}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found


def _starts(study: Study, held: Collection[int]) -> tuple[list[dict[str, Any]], list[int | None]]:
    """The different texts that runs start from, and which of them each run has.

    A start names the first run that has it, and the first of those that the page holds.
    """
    numbers: dict[str, int] = {}
    starts: list[dict[str, Any]] = []
    start_of: list[int | None] = []
    for index, run in enumerate(study.runs):
        key = _first_texts(run)
        if key is None:
            start_of.append(None)
            continue
        if key not in numbers:
            numbers[key] = len(starts)
            starts.append({"run": index, "held": None})
        start = starts[numbers[key]]
        if start["held"] is None and index in held:
            start["held"] = index
        start_of.append(numbers[key])
    return starts, start_of


def _first_texts(run: StudyRun) -> str | None:
    steps = steps_of(run)
    if not steps:
        return None
    if run.record is not None:
        texts = [[text.completion, sorted(text.scores)] for text in run.record.texts[steps[0]]]
    else:
        texts = [[r["prompt"], r["completion"]] for r in run.samples if r["step"] == steps[0]]
    return hashlib.sha256(json_text(texts).encode()).hexdigest()


def _start_scores(study: Study, judge: str) -> dict[str, Any]:
    """Mean and spread of a judge's scores over the start's texts."""
    runs = [run for run in study.runs if run.record]
    if not runs:
        return {"mean": None, "spread": None}
    first = np.array([scores_of(run, judge)[0] for run in runs])
    known = first[~np.isnan(first)]
    mean = float(known.mean()) if len(known) else None
    return {"mean": short_numbers(mean), "spread": short_numbers(judge_spread(study, judge))}


def _plain(settings: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in settings.items()}
