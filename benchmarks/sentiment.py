"""Positive continuation, told as RL4LMs tells it: what a classifier of sentiment says of the texts.

    python benchmarks/sentiment.py RUN [RUN ...] [--names "grpo 0" ...]

RUN is a directory of `textgym train`, `compare` or a demo's `comparison`, on the movie reviews,
with held-out evaluations. The score of a text is the probability that a critic who wrote it, prompt
included, liked the film, by the judge `critic`, which no training sees. Beside it stand what
RL4LMs published of GPT-2 on IMDb (Ramamurthy et al. 2023; there the classifier of the table is the
reward as well). Writes `benchmarks/results/sentiment.md`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from demo_seeds import titled, write
from scipy import stats

from textgym.agents.comparison.reading import read_study
from textgym.agents.comparison.study import StudyRun
from textgym.agents.evaluation.bundled_rewards import critic
from textgym.agents.evaluation.report import Interval
from textgym.agents.runs.held_out import perplexity
from textgym.envs.tasks.movie_reviews import load_critic_snippets
from textgym.text_metrics.metrics import distinct_n

PUBLISHED = {  # sentiment and perplexity, before and after
    "RL4LMs, GPT-2, PPO": ((0.489, 32.17), (0.602, 33.82)),
    "RL4LMs, GPT-2, fine-tuned, then PPO": ((0.539, 35.47), (0.626, 35.05)),
}
GAIN = 0.626 / 0.539 - 1  # of what was fine-tuned first, as ours was


def positive(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """Probabilities `[n]` that the writer of a text liked the film."""
    probabilities: npt.NDArray[np.float64] = 1 / (1 + np.exp(-np.asarray(critic().raw(texts))))
    return probabilities


def ranked_right() -> tuple[float, int]:
    """How often the judge puts a liking snippet before a disliking one, on unseen movies."""
    snippets = load_critic_snippets("test")
    scores = positive([snippet.text for snippet in snippets])
    liked = np.array([snippet.label == "fresh" for snippet in snippets])
    greater = stats.mannwhitneyu(scores[liked], scores[~liked]).statistic
    return float(greater / (liked.sum() * (~liked).sum())), len(snippets)


def row(name: str, run: StudyRun) -> str:
    """A run's line: sentiment before and after, and what keeps it honest."""
    record = run.record
    assert record is not None
    scores, figures = [], []
    for step in (record.steps[0], record.steps[-1]):
        written = record.texts[step]
        prompts = [str(record.prompts[text.prompt]["prompt"]) for text in written]
        completions = [text.completion for text in written]
        texts = [a + b for a, b in zip(prompts, completions, strict=True)]
        scores.append(positive(texts))
        figures.append((perplexity(written), distinct_n(completions, 2)))
    before, after = scores
    gain = after.mean() / before.mean() - 1
    change = Interval.of(after - before)
    surprise, variety = (b / a for a, b in zip(*figures, strict=True))
    bars = [gain >= GAIN, 0.8 <= surprise <= 1.05, variety >= 0.8]
    cells = [f"{gain:+.0%}", f"{surprise:.2f}", f"{variety:.2f}"]
    told = [c if holds else f"{c} **missed**" for c, holds in zip(cells, bars, strict=True)]
    scored = f"{before.mean():.3f} → {after.mean():.3f}"
    difference = f"{change.mean:+.3f} ± {change.half_width:.3f}"
    return f"| {' | '.join([name, scored, difference, *told])} |"


def main() -> int:
    """Read, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--names", nargs="+", help="as many as runs; else their directories'")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sentiment.md"))
    arguments = parser.parse_args()
    names = arguments.names or [str(run) for run in arguments.runs]
    if len(names) != len(arguments.runs):
        parser.error(f"--names wants {len(arguments.runs)} names, got {len(names)}")
    area, count = ranked_right()
    lines = [
        f"The score is the judge's probability that the writer liked the film: means over the "
        f"held-out prompts, the difference text by text. The judge ranks {area:.0%} of liking and "
        f"disliking snippets of unseen movies right ({count} snippets). Bars: a gain of {GAIN:.0%} "
        "(RL4LMs', after fine-tuning), perplexity under the start .8 to 1.05 times, distinct-2 at "
        "least .8 times.",
        "",
        "| run | P(liked) | difference | gain | perplexity | distinct-2 |",
        "|---|---|---|---:|---:|---:|",
    ]
    for name, directory in zip(names, arguments.runs, strict=True):
        for run in read_study(directory).runs:
            lines.append(row(name, run))
    for name, (before, after) in PUBLISHED.items():
        gain, ratio = after[0] / before[0] - 1, after[1] / before[1]
        lines.append(f"| {name} | {before[0]} → {after[0]} | | {gain:+.0%} | {ratio:.2f} | |")
    write(titled("Positive continuation", lines, 1), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
