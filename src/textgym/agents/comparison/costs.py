"""What a cell's gain was paid with: distance to the start, fluency, variety, length and time."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from textgym.agents.comparison.study import Study, StudyRun
from textgym.agents.runs.held_out import HeldOutText, perplexity
from textgym.text_metrics.metrics import distinct_n

_SPEED = "time/fps"


@dataclass(frozen=True)
class Costs:
    """Figures of a cell at its last evaluation, means over its seeds; None where nobody knows.

    :param kl: nats per text to the start.
    :param perplexity_ratio: perplexity under the start, over that of the start's own texts.
    :param distinct_2: of a run's texts together.
    :param distinct_2_start: the same of the start's texts.
    :param length: tokens, the stop token counted.
    :param length_start: the same of the start's texts.
    :param tokens_per_second: of training, everything included (`time/fps`).
    :param seconds: wall-clock time of a run's training.
    """

    cell: str
    kl: float
    perplexity_ratio: float
    distinct_2: float
    distinct_2_start: float
    length: float
    length_start: float
    tokens_per_second: float | None
    seconds: float | None


def costs_of(study: Study) -> list[Costs]:
    """The costs of every cell that has held-out evaluations."""
    found = []
    for cell in study.cells:
        runs = [r for r in study.runs_of(cell.label) if r.record is not None and r.record.steps]
        if not runs:
            continue
        ends, starts = [_texts(run, -1) for run in runs], [_texts(run, 0) for run in runs]
        ratios = [perplexity(e) / perplexity(s) for e, s in zip(ends, starts, strict=True)]
        speeds = [run.figures[_SPEED] for run in runs if _SPEED in run.figures]
        times = [run.seconds for run in runs if run.seconds is not None]
        found.append(
            Costs(
                cell=cell.label,
                kl=float(np.mean([text.kl for texts in ends for text in texts])),
                perplexity_ratio=float(np.mean(ratios)),
                distinct_2=_distinct(ends),
                distinct_2_start=_distinct(starts),
                length=_length(ends),
                length_start=_length(starts),
                tokens_per_second=float(np.mean(speeds)) if speeds else None,
                seconds=float(np.mean(times)) if times else None,
            )
        )
    return found


def _texts(run: StudyRun, evaluation: int) -> Sequence[HeldOutText]:
    assert run.record is not None
    return run.record.texts[run.record.steps[evaluation]]


def _distinct(runs: Sequence[Sequence[HeldOutText]]) -> float:
    return float(np.mean([distinct_n((text.completion for text in run), 2) for run in runs]))


def _length(runs: Sequence[Sequence[HeldOutText]]) -> float:
    return float(np.mean([text.length for run in runs for text in run]))
