"""Every algorithm against the exact optimum, three seeds with the full budget: `make learning`.

    python benchmarks/learning_table.py [--seeds 3] [--jobs 2] [--only ppo,grpo] [--quick]

Writes benchmarks/results/learning.md (`--out`) and exits with 1 if a bar is missed. Settings, bars
and budgets stand in tests/support/textgym_oracle.py; docs/oracle.md says what the figures mean.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Any

import torch
from machine import where

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import textgym_oracle as table  # noqa: E402

import textgym  # noqa: E402

SHORT = {table.ONE: "OneToken", table.FEW: "FewTokens"}
# The same run with one setting changed. Whatever is not 0.00 has another fixed point.
MOVED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo, as in the table above": ("ppo", table.ONE, {}),
    'ppo, `kl_estimator="k3"`': ("ppo", table.ONE, {"kl_estimator": "k3"}),
    'ppo, `kl_estimator="k2"`': ("ppo", table.ONE, {"kl_estimator": "k2"}),
    "ppo, `ent_coef=0.05`": ("ppo", table.ONE, {"ent_coef": 0.05}),
    "ppo, `normalize_advantage=True`": ("ppo", table.ONE, {"normalize_advantage": True}),
    "ppo, constant learning rate": ("ppo", table.ONE, {"final_learning_rate": None}),
    "grpo, as in the table above": ("grpo", table.ONE, {}),
    'grpo, `kl_in="loss"`, k2': ("grpo", table.ONE, {"kl_in": "loss", "kl_estimator": "k2"}),
    'grpo, `kl_in="loss"`, k3': ("grpo", table.ONE, {"kl_in": "loss", "kl_estimator": "k3"}),
    'grpo, `scale_rewards="group"`': ("grpo", table.ONE, {"scale_rewards": "group"}),
    'grpo, `scale_rewards="group"`, `kl_in="loss"`, k2': (
        "grpo",
        table.ONE,
        {"scale_rewards": "group", "kl_in": "loss", "kl_estimator": "k2"},
    ),
    'grpo, several tokens, `kl_in="loss"`, k2': (
        "grpo",
        table.FEW,
        {"kl_in": "loss", "kl_estimator": "k2"},
    ),
    "ppo, several tokens, `gae_lambda=0.8`": ("ppo", table.FEW, {"gae_lambda": 0.8}),
}


@dataclass(frozen=True)
class Run:
    """One training run.

    :param kl_coef: 0 for the algorithms without a KL term.
    :param changes: keywords that replace the setting's.
    """

    name: str
    env: str
    seed: int
    kl_coef: float
    is_shuffled: bool = False
    is_quick: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    :param tokens: that it was trained on.
    :param distance: total variation to π*, on the worse prompt; `start` before the training.
    :param gap: J(π*) - J(π), reward per text.
    :param share: expected reward over the highest.
    :param seconds: of processor time.
    """

    tokens: int
    start: float
    distance: float
    gap: float
    share: float
    seconds: float


def play(run: Run) -> Outcome:
    """Train once, on one thread."""
    torch.set_num_threads(1)
    settings = table.REGULARISED if run.kl_coef else table.UNREGULARISED
    setting = settings[run.name][run.env]
    tokens = (setting.quick or setting.full // 8) if run.is_quick else setting.full
    changes = dict(run.changes)
    if run.kl_coef:
        changes["kl_coef"] = run.kl_coef
    if run.is_shuffled:
        changes["reward"] = table.AnotherTextsScore(textgym.get_task(run.env).reward)
    oracle, start = table.oracle_of(run.env, run.seed), table.start_model(run.env, run.seed)
    began = time.process_time()
    lm = table.train(run.name, run.env, setting, run.seed, tokens=tokens, **changes)
    return Outcome(
        tokens=tokens,
        start=oracle.distance(start),
        distance=oracle.distance(lm),
        gap=oracle.highest_objective - oracle.objective(lm),
        share=oracle.reward(lm) / oracle.highest_reward,
        seconds=time.process_time() - began,
    )


def all_runs(seeds: Iterable[int], only: set[str], is_quick: bool) -> list[Run]:
    """The runs of all three tables."""
    seeds = list(seeds)
    runs = [
        Run(name, env, seed, table.BETA, is_quick=is_quick)
        for name, envs in table.REGULARISED.items()
        for env in envs
        for seed in seeds
    ]
    for name, envs in table.UNREGULARISED.items():
        for env in envs:
            runs += [Run(name, env, seed, 0.0, is_quick=is_quick) for seed in seeds]
            runs.append(Run(name, env, seeds[0], 0.0, is_shuffled=True, is_quick=is_quick))
    for name, env, changes in MOVED.values():
        if changes:  # the unchanged ones are among the first
            runs.append(Run(name, env, seeds[0], table.BETA, is_quick=is_quick, changes=changes))
    return [run for run in runs if not only or run.name in only]


def regularised_table(outcomes: Mapping[int, tuple[Run, Outcome]]) -> tuple[list[str], bool]:
    """Lines of the first table, and whether all bars are met."""
    lines = [
        "| algorithm | environment | tokens | start | total variation to π*, by seed | bar | "
        "J(π*) - J(π) | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    is_met = True
    for name, env, found in _grouped(outcomes, lambda r: bool(r.kl_coef) and not r.changes):
        bar = (table.QUICK_BARS if found[0][0].is_quick else table.BARS)[env]
        holds = all(o.distance < bar for _, o in found)
        is_met &= holds
        distances = ", ".join(f"{o.distance:.4f}" for _, o in found)
        lines.append(
            f"| {name} | {SHORT[env]} | {found[0][1].tokens:,} | "
            f"{min(o.start for _, o in found):.2f} | {distances} | {bar} "
            f"{'✓' if holds else '**missed**'} | {max(o.gap for _, o in found):.5f} | "
            f"{sum(o.seconds for _, o in found) / len(found):.0f} |"
        )
    return lines, is_met


def unregularised_table(outcomes: Mapping[int, tuple[Run, Outcome]]) -> tuple[list[str], bool]:
    """Lines of the second table, and whether all bars are met."""
    lines = [
        "| algorithm | environment | tokens | share of the highest reward, by seed | bar | "
        "with shuffled rewards | s |",
        "|---|---|---|---|---|---|---|",
    ]
    is_met = True
    for name, env, found in _grouped(outcomes, lambda r: not r.kl_coef and not r.is_shuffled):
        bar = table.SHARE_OF_HIGHEST
        shuffled = [
            o for r, o in outcomes.values() if r.is_shuffled and (r.name, r.env) == (name, env)
        ]
        holds = all(o.share > bar for _, o in found) and all(o.share < bar for o in shuffled)
        is_met &= holds
        lines.append(
            f"| {name} | {SHORT[env]} | {found[0][1].tokens:,} | "
            f"{', '.join(f'{o.share:.4f}' for _, o in found)} | {bar} "
            f"{'✓' if holds else '**missed**'} | {', '.join(f'{o.share:.3f}' for o in shuffled)} | "
            f"{sum(o.seconds for _, o in found) / len(found):.0f} |"
        )
    return lines, is_met


def moved_table(outcomes: Mapping[int, tuple[Run, Outcome]]) -> list[str]:
    """Lines of the third table."""
    lines = ["| run | environment | total variation to π* |", "|---|---|---|"]
    for label, (name, env, changes) in MOVED.items():
        for run, outcome in outcomes.values():
            is_it = (run.name, run.env, run.changes) == (name, env, changes)
            if is_it and run.kl_coef and run.seed == min(r.seed for r, _ in outcomes.values()):
                lines.append(f"| {label} | {SHORT[env]} | {outcome.distance:.3f} |")
                break
    return lines


def _grouped(
    outcomes: Mapping[int, tuple[Run, Outcome]], is_wanted: Callable[[Run], bool]
) -> list[tuple[str, str, list[tuple[Run, Outcome]]]]:
    """(algorithm, environment, the runs of all seeds) in the order in which they were listed."""
    groups: dict[tuple[str, str], list[tuple[Run, Outcome]]] = {}
    for run, outcome in outcomes.values():
        if is_wanted(run):
            groups.setdefault((run.name, run.env), []).append((run, outcome))
    return [(name, env, found) for (name, env), found in groups.items()]


def page(outcomes: Mapping[int, tuple[Run, Outcome]]) -> tuple[str, bool]:
    """The page, and whether all bars are met."""
    first, first_met = regularised_table(outcomes)
    second, second_met = unregularised_table(outcomes)
    lines = [
        "# Every algorithm against the exact optimum",
        "",
        *where(1),
        "",
        f"With a KL term, β = {table.BETA}. Total variation is that of the worse prompt; `start` "
        "is the least of the seeds, J(π*) - J(π) the largest. `s` is a run's processor time.",
        "",
        *first,
        "",
        "Without a KL term: expected reward of the policy as it samples, over the highest.",
        "",
        *second,
        "",
        "What moves the fixed point: the first seed with one setting changed.",
        "",
        *moved_table(outcomes),
    ]
    return "\n".join(lines) + "\n", first_met and second_met


def main() -> int:
    """Run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=cpu_count() or 1, help="runs at a time")
    parser.add_argument("--only", default="", help="algorithms, with commas between")
    parser.add_argument("--quick", action="store_true", help="the budgets of the test suite")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "learning.md")
    arguments = parser.parse_args()
    only = set(filter(None, arguments.only.split(",")))
    runs = all_runs(range(arguments.seeds), only, arguments.quick)
    outcomes: dict[int, tuple[Run, Outcome]] = {}
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for i, (run, outcome) in enumerate(zip(runs, pool.map(play, runs), strict=True)):
            outcomes[i] = run, outcome
            print(
                f"{i + 1}/{len(runs)} {run.name} {SHORT[run.env]} seed {run.seed} "
                f"{'shuffled ' if run.is_shuffled else ''}{dict(run.changes) or ''} "
                f"TV {outcome.distance:.4f} share {outcome.share:.4f} {outcome.seconds:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    text, is_met = page(outcomes)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
