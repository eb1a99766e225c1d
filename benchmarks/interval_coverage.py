"""How often the intervals of a verdict hold the truth, over simulated studies.

    nice python benchmarks/interval_coverage.py [--data-sets 1000]

Studies of four cells with known means, whose scores are cell + seed + prompt + prompt in this cell
+ noise. Writes `benchmarks/results/interval_coverage.md`.
"""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from machine import where

from textgym.agents.comparison.aggregates import (
    interquartile_mean,
    mean,
    paired_difference,
    probability_of_improvement,
)
from textgym.agents.comparison.intervals import Estimate, interval_of, t_quantile, variance_of
from textgym.agents.comparison.simultaneous import Pair, separate_intervals, simultaneous_intervals

Floats = npt.NDArray[np.float64]
RESULTS = Path(__file__).resolve().parent / "results" / "interval_coverage.md"
EFFECTS = (0.0, 0.1, 0.2, 0.3)
PAIRS: list[Pair] = list(itertools.combinations(range(len(EFFECTS)), 2))
BOOTSTRAPS = 100
DRAWS = 400  # a tenth of a verdict's, for speed
COLUMNS = {
    "iqm": "IQM",
    "mean": "mean",
    "difference_iqm": "difference of IQMs",
    "difference_mean": "difference of means",
    "improvement": "probability of improvement",
    "together": "six differences together",
    "gains": "four gains on the start together",
    "satterthwaite": "IQM, Satterthwaite's df",
    "percentile": "IQM, percentile bootstrap of seeds and prompts",
    "stratified": "IQM, rliable's stratified bootstrap",
}


@dataclass(frozen=True)
class Design:
    """A kind of study.

    :param seed_spread: standard deviation over seeds of a cell's mean; one a cell.
    :param shared_seed: of what all cells of a seed have in common.
    :param prompt_spread: of a prompt's effect on all cells.
    :param own_prompt: of its effect on one cell.
    :param noise: of a single text.
    :param skewed: noise and prompts from a gamma distribution (shape 2) instead of a normal one.
    :param silent: share of the texts of which the judge says nothing.
    """

    title: str
    seeds: int = 5
    prompts: int = 200
    seed_spread: tuple[float, ...] = (0.07,) * 4
    shared_seed: float = 0.0
    prompt_spread: float = 0.4
    own_prompt: float = 0.2
    noise: float = 0.9
    skewed: bool = False
    silent: float = 0.0

    def draw(self, rng: np.random.Generator) -> Floats:
        """Scores `[cell, seed, prompt]`; the last cell is the start, whose seeds do not vary."""
        cells, seeds, prompts = len(EFFECTS) + 1, self.seeds, self.prompts
        spread = np.array([*self.seed_spread, 0.0])[:, None, None]
        scores = np.array([*EFFECTS, 0.0])[:, None, None] + spread * rng.standard_normal(
            (cells, seeds, 1)
        )
        scores[:-1] += self.shared_seed * rng.standard_normal((1, seeds, 1))
        scores = scores + self.prompt_spread * self._effects(rng, (1, 1, prompts))
        scores = scores + self.own_prompt * self._effects(rng, (cells, 1, prompts))
        scores = scores + self.noise * self._effects(rng, (cells, seeds, prompts))
        if self.silent:
            scores[rng.random(scores.shape) < self.silent] = np.nan
        return np.asarray(scores)

    def _effects(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
        if self.skewed:
            return (rng.standard_gamma(2.0, shape) - 2) / 2**0.5
        return rng.standard_normal(shape)

    def truths(self) -> tuple[float, float]:
        """The IQM of the first cell, and the chance that the last cell's text beats its own."""
        rng, n = np.random.default_rng(1), 1_000_000
        parts = (self.prompt_spread, self.own_prompt, self.noise)
        centre = sum(part * self._effects(rng, (n,)) for part in parts)
        seeds = [np.hypot(self.seed_spread[k], self.shared_seed) for k in (0, -1)]
        iqm = interquartile_mean((centre + seeds[0] * rng.standard_normal(n))[None]).value
        # Another seed and another draw: of what the two share, the prompt alone cancels.
        sides = [
            self.own_prompt * self._effects(rng, (n,))
            + self.noise * self._effects(rng, (n,))
            + seed * rng.standard_normal(n)
            for seed in seeds
        ]
        return iqm, float((sides[1] + EFFECTS[-1] > sides[0]).mean())


def designs() -> Iterator[Design]:
    """All kinds of study, realistic ones first."""
    for seeds in (3, 5, 10):
        for spread in (0.05, 0.07, 0.1):
            title = f"seeds vary by {spread:g}"
            yield Design(title, seeds=seeds, seed_spread=(spread,) * 4)
    base = Design("")
    for seeds in (3, 5, 10):
        at = replace(base, seeds=seeds)
        yield replace(at, title="seeds do not vary", seed_spread=(0.0,) * 4)
        yield replace(at, title="seeds vary by 0.3", seed_spread=(0.3,) * 4)
        yield replace(at, title="one cell's by 0.25", seed_spread=(0.25, 0.04, 0.04, 0.04))
        yield replace(at, title="cells share a seed's effect of 0.1", shared_seed=0.1)
        yield replace(at, title="30 prompts", prompts=30)
        yield replace(at, title="8 prompts", prompts=8)
        yield replace(at, title="skewed scores", skewed=True)
        yield replace(at, title="a fifth unscored", silent=0.2)
    yield replace(base, title="500 prompts", prompts=500)
    yield replace(base, title="prompts do not matter", prompt_spread=0.0, own_prompt=0.0)
    yield replace(base, title="prompts vary by 1", prompt_spread=1.0)
    yield replace(base, title="two seeds", seeds=2)


def coverage(design: Design, data_sets: int) -> dict[str, float]:
    """Share of the data sets whose interval holds the truth, by column."""
    rng = np.random.default_rng(0)
    iqm, improvement = design.truths()
    hits: dict[str, list[bool]] = {name: [] for name in COLUMNS}
    apart = EFFECTS[-1] - EFFECTS[0]
    for k in range(data_sets):
        *scores, start = design.draw(rng)
        first, last = scores[0], scores[-1]
        single = interquartile_mean(first)
        hits["iqm"].append(holds(interval_of(single), iqm))
        hits["mean"].append(holds(interval_of(mean(first)), EFFECTS[0]))
        for name, aggregate in (("iqm", interquartile_mean), ("mean", mean)):
            difference = interval_of(paired_difference(last, first, aggregate))
            hits[f"difference_{name}"].append(holds(difference, apart))
        chance = interval_of(probability_of_improvement(last, first), within=(0, 1))
        hits["improvement"].append(holds(chance, improvement))
        parts = [interquartile_mean(of_cell).influence for of_cell in scores]
        figures = [paired_difference(scores[i], scores[j]) for i, j in PAIRS]
        truths = [EFFECTS[i] - EFFECTS[j] for i, j in PAIRS]
        together = simultaneous_intervals(parts, figures, PAIRS, draws=DRAWS)
        hits["together"].append(all(map(holds, together, truths)))
        gains = [paired_difference(of_cell, start) for of_cell in scores]
        together = separate_intervals(gains)
        hits["gains"].append(all(map(holds, together, EFFECTS)))
        hits["satterthwaite"].append(holds(satterthwaite(single), iqm))
        if k % 5 == 0 and not design.silent:
            for name, find in (("percentile", percentile), ("stratified", stratified)):
                low, high = bootstrap(find(first, BOOTSTRAPS, rng))
                hits[name].append(low <= iqm <= high)
    return {name: float(np.mean(found)) for name, found in hits.items() if found}


def holds(interval: Estimate, truth: float) -> bool:
    """Whether the truth lies in an interval."""
    return interval.low <= truth <= interval.high


def satterthwaite(figure) -> Estimate:  # type: ignore[no-untyped-def]
    """The interval with Satterthwaite's degrees of freedom: shares squared."""
    variance = variance_of(figure.influence)
    free = variance.seeds**2 / (variance.n_seeds - 1)
    free += variance.prompts**2 / (variance.n_prompts - 1)
    half = t_quantile(0.05, variance.total**2 / free) * variance.total**0.5
    return Estimate(figure.value, figure.value - half, figure.value + half, variance.n_seeds)


def percentile(scores: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Scores with seeds and prompts redrawn, `[draw, score]`."""
    seeds, prompts = scores.shape
    rows = rng.integers(seeds, size=(draws, seeds, 1))
    columns = rng.integers(prompts, size=(draws, 1, prompts))
    return np.asarray(scores[rows, columns].reshape(draws, -1))


def stratified(scores: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Scores with the seeds redrawn at each prompt by itself, as `rliable` does, prompts kept."""
    seeds, prompts = scores.shape
    rows = rng.integers(seeds, size=(draws, seeds, prompts))
    return np.asarray(scores[rows, np.arange(prompts)].reshape(draws, -1))


def bootstrap(drawn: Floats) -> tuple[float, float]:
    """The quantiles of the IQM of redrawn scores `[draw, score]`."""
    cut = drawn.shape[1] // 4
    middle = np.partition(drawn, (cut, drawn.shape[1] - cut - 1), axis=1)
    low, high = np.quantile(middle[:, cut : drawn.shape[1] - cut].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def table(rows: list[tuple[Design, dict[str, float]]]) -> list[str]:
    """Markdown; what leaves 93 to 97 is bold."""
    lines = [
        f"| seeds | prompts | design | {' | '.join(COLUMNS.values())} |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for design, found in rows:
        cells = []
        for name in COLUMNS:
            percent = f"{100 * found[name]:.1f}" if name in found else ""
            is_in = name in found and 0.93 <= found[name] <= 0.97
            cells.append(percent if is_in or not percent else f"**{percent}**")
        line = (str(design.seeds), str(design.prompts), design.title, *cells)
        lines.append(f"| {' | '.join(line)} |")
    return lines


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-sets", type=int, default=1000)
    parser.add_argument("--only", help="designs whose title has this in it", default="")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    header = where(1)
    rows = []
    for design in designs():
        if arguments.only in design.title:
            rows.append((design, coverage(design, arguments.data_sets)))
            print(table(rows[-1:])[-1], flush=True)
    error = 100 * (0.95 * 0.05 / arguments.data_sets) ** 0.5
    lines = [
        "# Coverage of the intervals of a verdict",
        "",
        f"Percent of {arguments.data_sets:,} simulated studies whose 95% interval holds the truth "
        f"(standard error {error:.1f}); bold is what leaves 93 to 97. Scores are in standard "
        "deviations: a text varies by 0.9, a prompt by 0.4 for all cells and by 0.2 for one, and a "
        "seed's mean as the design says ([algorithms.md](algorithms.md): 0.05 to 0.1). Seeds vary "
        "by 0.07 where it says nothing. The last three columns are what a verdict does not do; the "
        f"bootstraps ({BOOTSTRAPS} draws) saw every fifth study.",
        "",
        *table(rows),
        "",
        *header,
    ]
    arguments.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
