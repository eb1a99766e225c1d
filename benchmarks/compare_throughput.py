"""Does `textgym compare` keep the machine busy? A study against its runs, each timed alone.

    python benchmarks/compare_throughput.py [--cells 10] [--timesteps 7680] [--alone 3] [--jobs N]

The cells are equal: PPO from the bundled model on the movie reviews, with ten values of β, so that
every run has the same work. The study is the command itself, start, checks and report included. Of
its runs some, spread over the cells, are made again one after the other by the command lines that
`--dry-run` prints, on one thread and with nothing beside them; the others count as their mean.
Writes `benchmarks/results/compare_throughput.md`.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import where

BAR = 1.15


def study_words(cells: int, timesteps: int, out: Path, jobs: int) -> list[str]:
    """The command line of a study of equal cells."""
    words = ["compare", "textgym/MovieReview-v0", "--policy", "start", "--reward", "lexicon"]
    for number in range(cells):
        words += ["--agent", f"ppo,kl_coef={0.01 * (number + 1):.2f}"]
    words += ["--gold", "length,target=60", "--seeds", "1", "--timesteps", str(timesteps)]
    return [*words, "--out", str(out), "--jobs", str(jobs)]


def run(words: list[str], *, one_thread: bool = False) -> tuple[float, str]:
    """Seconds of a command from its start to its end, and what it printed."""
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}
    environment = {**os.environ, **(threads if one_thread else {})}
    began = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "textgym", *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return time.monotonic() - began, found.stdout


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=10)
    parser.add_argument("--timesteps", type=int, default=7_680)
    parser.add_argument("--alone", type=int, default=3, help="runs that are timed by themselves")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--out", type=Path, help="the page")
    arguments = parser.parse_args()
    place = Path(__file__).parent / "results" / "compare_throughput.md"
    header = where(arguments.jobs)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "study"
        words = study_words(arguments.cells, arguments.timesteps, out, arguments.jobs)
        wall, _ = run(words)
        _, printed = run([*words, "--dry-run"])
        lines = [line for line in printed.splitlines() if "textgym train" in line]
        assert len(lines) == arguments.cells, printed
        chosen = [k * arguments.cells // arguments.alone for k in range(arguments.alone)]
        alone = []
        for number in chosen:
            again = shlex.split(lines[number].partition("-m textgym ")[2])
            again[again.index("--out") + 1] = str(Path(folder) / f"alone-{number}")
            alone.append(run([*again, "--no-progress-bar"], one_thread=True)[0])
            print(f"alone: {alone[-1]:.1f} s", file=sys.stderr)
    whole = statistics.fmean(alone) * arguments.cells
    ratio = wall / (whole / arguments.jobs)
    spread = f"{min(alone):.1f} to {max(alone):.1f}"
    page = "\n".join(
        [
            "# A study against its runs",
            "",
            *header,
            "",
            f"{arguments.cells} equal cells (PPO from the bundled model, {arguments.timesteps:,} "
            f"tokens each, five held-out evaluations), {arguments.jobs} at a time.",
            "",
            "| figure | value |",
            "|---|---|",
            f"| a run alone on one thread, mean of {len(alone)} | {whole / arguments.cells:.1f} s "
            f"({spread}) |",
            f"| all runs, one after the other | {whole:.1f} s |",
            f"| divided by the cores | {whole / arguments.jobs:.1f} s |",
            f"| the study, from the command to its end | {wall:.1f} s |",
            f"| ratio (bar: at most {BAR}) | {ratio:.3f}, {'pass' if ratio <= BAR else 'fail'} |",
            "",
        ]
    )
    (arguments.out or place).write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
