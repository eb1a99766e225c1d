"""What an iteration of Stable-Baselines3's PPO costs on text, against the naive way and the floor.

    python benchmarks/ppo_iteration.py [--quick] [--threads 2] [--repeats 7] [--only floor,lengths]
    python benchmarks/ppo_iteration.py --shape smollm2 --only floor --epochs 1 --repeats 3

One process; every repetition runs all variants in turn, after a warm-up. Ratios are medians over
the repetitions of the ratio inside a repetition, so that a machine that slows down for a while does
no harm. Writes `benchmarks/results/ppo_iteration.md`.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from cases import Case, agent_cases, floor_case, naive_case
from machine import where
from report import Figures, report
from token_world import EPOCHS, SHAPES

GROUPS = ("naive", "floor", "lengths", "mixed", "variants", "bfloat16")


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    header = where(arguments.threads)
    shape, epochs = SHAPES[arguments.shape], arguments.epochs
    groups = arguments.only.split(",")
    cases = agent_cases(shape, groups, epochs)
    if "floor" in groups:
        cases["floor"] = floor_case(shape, epochs)
    if "naive" in groups:
        cases["naive"] = naive_case(shape)
    figures = measure(cases, arguments.repeats, _clock(arguments.clock))
    header.append(
        f"- {arguments.repeats} interleaved repetitions after a warm-up; {arguments.clock} time; "
        f"model: {shape}, random weights, float32 unless said; {epochs} epochs"
    )
    text = report(header, figures)
    print(text)
    path: Path = arguments.out
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def measure(cases: dict[str, Case], repeats: int, clock: Callable[[], float]) -> Figures:
    """Seconds of every phase of every case, one list entry a repetition."""
    for case in cases.values():  # warm-up
        case.rollout()
        case.update()
    figures = Figures()
    for repetition in range(repeats):
        names = list(cases)
        shift = repetition % len(names)  # another neighbour each time
        for name in names[shift:] + names[:shift]:
            case = cases[name]
            start_tokens = case.tokens()
            start = clock()
            case.rollout()
            middle, middle_tokens = clock(), case.tokens()
            case.update()
            end, end_tokens = clock(), case.tokens()
            figures.add(name, "rollout", middle - start, case.acted, middle_tokens - start_tokens)
            figures.add(
                name, "update", (end - middle) * case.scale, case.acted, end_tokens - middle_tokens
            )
        rollout, update = (figures.seconds["base", phase][-1] for phase in ("rollout", "update"))
        done = f"{repetition + 1}/{repeats}"
        print(f"{done}: rollout {rollout:.3f} s, update {update:.3f} s", flush=True)
    return figures


def _clock(name: str) -> Callable[[], float]:
    return time.process_time if name == "cpu" else time.perf_counter


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 repetitions: a look, not a figure")
    parser.add_argument("--only", default=",".join(GROUPS[:-1]), help="of: " + ", ".join(GROUPS))
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, for one thread on a machine that others use too",
    )
    parser.add_argument("--shape", choices=list(SHAPES), default="small")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out is None:
        name = "ppo_iteration" + ("" if arguments.shape == "small" else f"_{arguments.shape}")
        arguments.out = Path(__file__).resolve().parent / "results" / f"{name}.md"
    if arguments.clock == "cpu" and arguments.threads > 1:
        parser.error("--clock cpu adds up the threads: use it with --threads 1")
    unknown = set(arguments.only.split(",")) - set(GROUPS)
    if unknown:
        parser.error(f"--only knows {', '.join(GROUPS)}; got {', '.join(sorted(unknown))}")
    if arguments.quick:
        arguments.repeats = 2
    return arguments


if __name__ == "__main__":
    main()
