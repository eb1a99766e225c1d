"""How the cost of an iteration of PPO grows: with the text, the batch, the vocabulary, the model.

    python benchmarks/cost_growth.py [--repeats 2] [--only length,batch]

Seconds of processor time on one thread, of a rollout and one epoch of unmodified PPO, and the peak
of memory over that of the imports (Linux only). Each point is a process of its own; from a base of
4 layers × 256, 4,096 words, 32 rows of 16 + 48 tokens one thing changes at a time. An exponent is
the slope of a straight line through the points on log axes; that of the last two points alone is
what a larger size will cost. Writes `results/cost_growth.md`, `docs/pictures/cost_growth.png`.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from machine import where
from memory import resident

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Point:
    """A size of everything."""

    completion: int = 48
    rows: int = 32
    vocabulary: int = 4096
    layers: int = 4
    hidden: int = 256

    def measure(self, repeats: int) -> dict[str, float]:
        """Seconds of an iteration, GB over the imports, and weights; in this process."""
        import torch
        from cases import ppo_case
        from token_world import MINIBATCH, PROMPT, Shape, make_env, make_ppo

        torch.set_num_threads(1)
        imported = resident("VmRSS")
        shape = Shape(
            layers=self.layers,
            hidden=self.hidden,
            heads=self.hidden // 32,
            intermediate=8 * self.hidden // 3 // 8 * 8,
            vocabulary=self.vocabulary,
            context=PROMPT + self.completion,
        )
        env = make_env(self.completion, rows=self.rows, vocabulary=self.vocabulary)
        size = min(MINIBATCH, self.rows * self.completion)
        agent = make_ppo(shape, env, self.completion, n_epochs=1, batch_size=size)
        case, seconds = ppo_case(agent), []
        for _ in range(repeats + 1):  # the first warms up
            began = time.process_time()
            case.rollout()
            case.update()
            seconds.append(time.process_time() - began)
        return {
            "seconds": sorted(seconds[1:])[repeats // 2],
            "gigabytes": (resident("VmHWM") - imported) / 1e9,
            "weights": sum(p.numel() for p in agent.policy.parameters()),
        }


BASE = Point()
SWEEPS: dict[str, list[tuple[float, Point]]] = {
    "length": [(n, replace(BASE, completion=n)) for n in (16, 32, 64, 128, 256, 512)],
    "batch": [(n, replace(BASE, rows=n)) for n in (8, 16, 32, 64, 128, 256)],
    "vocabulary": [(n, replace(BASE, vocabulary=n)) for n in (256, 1024, 4096, 16384, 49152)],
    "weights": [
        (0, replace(BASE, layers=n, hidden=d))
        for n, d in ((2, 64), (2, 128), (4, 256), (6, 384), (8, 512))
    ],
}
AXES = {
    "length": "completion tokens",
    "batch": "rows",
    "vocabulary": "words of the vocabulary",
    "weights": "weights",
}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the straight line through points on log axes."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def in_a_process(point: Point, repeats: int) -> dict[str, float]:
    """The figures of a point, measured in a fresh process."""
    command = [sys.executable, __file__, "--point", json.dumps(asdict(point))]
    command += ["--repeats", str(repeats)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(found.stdout.splitlines()[-1]))


def main() -> int:
    """Measure each point in a child, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", default=",".join(SWEEPS))
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/cost_growth.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/pictures/cost_growth.png")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point is not None:
        print(json.dumps(Point(**json.loads(options.point)).measure(options.repeats)))
        return 0
    header, lines, curves = where(1), [], {}
    for name in options.only.split(","):
        sizes, found = [], []
        for size, point in SWEEPS[name]:
            found.append(in_a_process(point, options.repeats))
            sizes.append(size or found[-1]["weights"])
            print(name, sizes[-1], found[-1], file=sys.stderr)
        curves[name] = sizes, found
        lines += ["", f"## {AXES[name].capitalize()}", "", "| | seconds | GB |", "|---:|---:|---:|"]
        for size, row in zip(sizes, found, strict=True):
            lines.append(f"| {size:,.0f} | {row['seconds']:.2f} | {row['gigabytes']:.2f} |")
        for what, (x, rows) in (
            ("all points", (sizes, found)),
            ("the last two", (sizes[-2:], found[-2:])),
        ):
            both = [slope(x, [row[key] for row in rows]) for key in ("seconds", "gigabytes")]
            lines.append(f"| exponent, {what} | {both[0]:.2f} | {both[1]:.2f} |")
    page = "\n".join(["# How the cost of an iteration grows", *lines, "", *header, ""])
    print(page)
    options.out.write_text(page, encoding="utf-8")
    draw(curves, options.picture)
    return 0


def short(size: float) -> str:
    """A size as an axis has room for it."""
    for unit, letter in ((1e6, "M"), (1e3, "k")):
        if size >= unit:
            return f"{size / unit:.3g}{letter}"
    return f"{size:.0f}"


def draw(curves: dict[str, tuple[list[float], list[dict[str, float]]]], path: Path) -> None:
    """Seconds above, memory below, on log axes, one column a sweep."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure, axes = plt.subplots(2, len(curves), figsize=(3.2 * len(curves), 5), squeeze=False)
    for column, (name, (sizes, found)) in enumerate(curves.items()):
        for row, (key, label) in enumerate((("seconds", "seconds"), ("gigabytes", "GB of memory"))):
            axis, values = axes[row][column], [point[key] for point in found]
            axis.loglog(sizes, values, "o-", color="#1f6f8b")
            axis.set_title(f"exponent {slope(sizes, values):.2f}", fontsize=10)
            axis.grid(True, which="major", alpha=0.3)
            axis.set_xticks([sizes[0], sizes[len(sizes) // 2], sizes[-1]])
            axis.xaxis.set_major_formatter(FuncFormatter(lambda size, _: short(size)))
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.yaxis.set_minor_formatter(NullFormatter())
            axis.set_xlabel(AXES[name] if row else "")
            axis.set_ylabel(label if not column else "")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
