"""How often does an audit find a planted fault, and how often does it accuse an honest reward?

    nice python benchmarks/audit_power.py [--seeds 10] [--honest 20] [--texts 120]

The rewards are those of `textgym.reward_models.auditing.planted`; each seed draws other reviews of
the bundled data, another honest reward's noise, and the checks' own draws. A fault is found where
one of the checks that it should set off warns or fails. Writes `benchmarks/results/audit_power.md`.
"""

import argparse
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from machine import where

from textgym.envs.tasks.movie_reviews import rated_continuations
from textgym.reward_models.auditing.checks import check_texts
from textgym.reward_models.auditing.planted import FAULTS, Remembered
from textgym.reward_models.auditing.texts import of_ratings

RESULTS = Path(__file__).resolve().parent / "results" / "audit_power.md"
STRENGTHS = (0.5, 1.0)
Task = tuple[int | None, float, int, int]


def audited(task: Task) -> set[str]:
    """The checks that warn or fail.

    :param task: place of the fault or None, strength, seed, texts.
    """
    fault, strength, seed, count = task
    texts = of_ratings(rated_continuations("validation"), np.random.default_rng(seed), most=count)
    honest = Remembered(texts, seed=seed)
    reward = honest if fault is None else FAULTS[fault].reward(honest, strength)
    found = check_texts(reward, texts, seed=seed).findings
    return {f.name for f in found if f.verdict in ("warn", "fail") and f.name != "speed"}


def main() -> None:
    """Audit, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--honest", type=int, default=20)
    parser.add_argument("--texts", type=int, default=120)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    header = where(arguments.jobs)
    tasks: list[Task] = [(None, 0.0, seed, arguments.texts) for seed in range(arguments.honest)]
    tasks += [
        (fault, strength, seed, arguments.texts)
        for seed in range(arguments.seeds)
        for strength in STRENGTHS
        for fault in range(len(FAULTS))
    ]
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        found = dict(zip(tasks, pool.map(audited, tasks), strict=True))
    RESULTS.write_text("\n".join([*page(found, arguments), "", *header]) + "\n", encoding="utf-8")


def page(found: dict[Task, set[str]], arguments: argparse.Namespace) -> list[str]:
    """Lines of Markdown."""
    honest = [names for task, names in found.items() if task[0] is None]
    false = Counter(name for names in honest for name in names)
    lines = [
        "# Power and false alarms of an audit",
        "",
        f"An honest reward, {len(honest)} audits of {arguments.texts} texts: "
        f"{sum(bool(names) for names in honest)} with any warning or failure"
        + (f" ({', '.join(f'{name} {n}' for name, n in false.most_common())})." if false else "."),
        "",
        "| fault | checks that should find it | "
        + " | ".join(f"found at strength {strength:g}" for strength in STRENGTHS)
        + f" | other checks that spoke (strength {STRENGTHS[-1]:g}) |",
        "|---|---|" + "---:|" * len(STRENGTHS) + "---|",
    ]
    for place, fault in enumerate(FAULTS):
        cells = []
        for strength in STRENGTHS:
            runs = [names for t, names in found.items() if t[0] == place and t[1] == strength]
            hits = sum(bool(names & set(fault.checks)) for names in runs)
            cells.append(f"{hits} of {len(runs)}")
        others = Counter(name for names in runs for name in names - set(fault.checks))
        told = ", ".join(f"{name} {count}" for name, count in others.most_common(4))
        lines.append(
            f"| {fault.what} | {', '.join(fault.checks)} | {' | '.join(cells)} | {told or '–'} |"
        )
    return [
        *lines,
        "",
        "Strength is in standard deviations of the honest reward, times what the fault's code in "
        "`planted.py` says; “speed” depends on the machine and is left out.",
    ]


if __name__ == "__main__":
    main()
