"""A study in figures: what `report.json` holds for programs, and the tables of `report.md`."""

from typing import Any

from textgym.agents.comparison.held_out_curves import KL, judge_tag, mean_of_known
from textgym.agents.comparison.study import Study, StudyRun, kl_of, scores_of
from textgym.agents.comparison.table_formats import Table, markdown, markdown_text
from textgym.agents.runs.held_out import prompts_digest
from textgym.counts import count_of


def summary_of(study: Study) -> dict[str, Any]:
    """The figures of every run over its evaluations, and what a reader must know; JSON values."""
    return {
        "title": study.title,
        "env": study.env,
        "prompts": len(study.prompts),
        "prompts_sha256": prompts_digest(study.prompts),
        "judges": dict(study.judges),
        "cells": [
            {"label": cell.label, "settings": dict(cell.settings), "reward": cell.reward}
            for cell in study.cells
        ],
        "runs": [_run(study, run) for run in study.runs],
        "failures": [vars(failure) for failure in study.failures],
        "notes": list(study.notes),
    }


def summary_markdown(study: Study) -> str:
    """Cells, runs that failed and notes, as Markdown in which no text acts."""
    of = f" of {study.env}" if study.env else ""
    compared = f"{study.title}, on {count_of(len(study.prompts), 'prompt')}{of}"
    rows = [_cell_row(study, cell.label) for cell in study.cells]
    headers = ["cell", "trained on", "runs", "seeds", "tokens"]
    parts = [markdown(Table("What was compared", headers, rows, compared))]
    if study.failures:
        failed = [[f.name, f.cell, str(f.seed), f.reason] for f in study.failures]
        headers = ["run", "cell", "seed", "what happened"]
        parts.append(markdown(Table("Not among the figures", headers, failed)))
    if study.notes:
        notes = "\n".join(f"- {markdown_text(note)}" for note in study.notes)
        parts.append(f"## Notes\n\n{notes}")
    return "\n\n".join(parts) + "\n"


def _run(study: Study, run: StudyRun) -> dict[str, Any]:
    return {
        "name": run.name,
        "cell": run.cell,
        "seed": run.seed,
        "timesteps": run.timesteps,
        "seconds": run.seconds,
        "steps": [] if run.record is None else run.record.steps,
        "held_out": {} if run.record is None else _held_out(study, run),
        "figures": dict(run.figures),
        "config": {name: value for name, value in run.config.items() if name != "out"},
    }


def _held_out(study: Study, run: StudyRun) -> dict[str, list[float]]:
    """Means over the prompts, `[evaluation]`, under TensorBoard's tags."""
    values = {judge_tag(judge): scores_of(run, judge) for judge in study.judges}
    values[KL] = kl_of(run)
    return {tag: mean_of_known(scores, 1).tolist() for tag, scores in values.items()}


def _cell_row(study: Study, label: str) -> list[str]:
    cell = next(cell for cell in study.cells if cell.label == label)
    runs = study.runs_of(label)
    tokens = dict.fromkeys(f"{run.timesteps:,}" for run in runs)
    seeds = ", ".join(str(run.seed) for run in runs)
    return [label, cell.reward, str(len(runs)), seeds, " or ".join(tokens)]
