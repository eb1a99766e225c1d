"""Microseconds per environment and step of the environments alone, with a null policy.

    python benchmarks/env_overhead.py [--envs 64] [--steps 960] [--repeats 15]

Whole steps are timed: tokens written, ends found, texts decoded, a trivial reward asked, infos
made, rows reset with the next prompt. The actions are drawn beforehand, and the same in every
repeat: of each step the fastest repeat counts, so that a busy machine hardly does. Prints a
Markdown table.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import gymnasium
import numpy as np
import stable_baselines3
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from textgym.agents.rollouts.vec_env import TextVecEnv
from textgym.envs.task import Task
from textgym.envs.text_env import TextEnv
from textgym.envs.vector_env import TextVectorEnv

Step = Callable[[np.ndarray], object]


def zeros(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """The trivial reward."""
    return [0.0] * len(completions)


def make_task() -> Task:
    """Prompts of 16 tokens (15 bytes and the start token), 48 new tokens, byte tokenizer."""
    prompts = [f"A prompt no. {i:02d}" for i in range(100)]
    return Task(id="bench/Overhead-v0", prompts=prompts, reward=zeros, max_new_tokens=48)


def make_actions(task: Task, n_steps: int, n_envs: int, stop_share: float) -> np.ndarray:
    """Random bytes, and a stop token with the given probability."""
    generator = np.random.default_rng(0)
    actions = generator.integers(3, task.tokenizer.vocab_size, size=(n_steps, n_envs))
    is_stop = generator.random((n_steps, n_envs)) < stop_share
    actions[is_stop] = task.tokenizer.eos_token_id
    return actions


def makers(n_envs: int) -> dict[str, Callable[[], Step]]:
    """What is timed: a fresh environment, reset, as its step function."""

    def native() -> Step:
        env = TextVectorEnv(make_task(), n_envs)
        env.reset(seed=0)
        return env.step

    def sb3() -> Step:
        env = TextVecEnv(TextVectorEnv(make_task(), n_envs))
        env.reset()
        return env.step

    def monitored() -> Step:
        env = VecMonitor(TextVecEnv(TextVectorEnv(make_task(), n_envs)))
        env.reset()
        return env.step

    def dummy() -> Step:
        env = DummyVecEnv([lambda: TextEnv(make_task())] * n_envs)
        env.reset()
        return env.step

    return {
        "native TextVectorEnv": native,
        "SB3 TextVecEnv": sb3,
        "SB3 TextVecEnv in VecMonitor (make_vec)": monitored,
        "SB3 DummyVecEnv over TextEnv": dummy,
    }


def time_steps(step: Step, actions: np.ndarray) -> np.ndarray:
    """Microseconds per environment of each step, `[steps]`."""
    times = np.zeros(len(actions))
    for i, row in enumerate(actions):
        start = time.perf_counter()
        step(row)
        times[i] = time.perf_counter() - start
    return times / actions.shape[1] * 1e6


def measure(n_envs: int, n_steps: int, repeats: int) -> list[str]:
    """Rows of the table, from interleaved repeats."""
    lines = []
    cases = {"all rows of 48 tokens": 0.0, "mixed lengths (stop with p = 1/28)": 1 / 28}
    for case, stop_share in cases.items():
        actions = make_actions(make_task(), n_steps, n_envs, stop_share)
        steps = {name: make() for name, make in makers(n_envs).items()}
        results: dict[str, list[np.ndarray]] = {name: [] for name in steps}
        for _ in range(repeats):
            for name, step in steps.items():
                few = actions[: max(96, n_steps // 10)] if "Dummy" in name else actions
                results[name].append(time_steps(step, few))
        for name, times in results.items():
            fastest = np.min(times, axis=0).mean()
            lines.append(f"| {name} | {case} | {fastest:.2f} |")
    return lines


def where() -> list[str]:
    """Command, commit, versions and machine."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    return [
        f"Command: `python {' '.join(sys.argv)}`; commit: {commit or 'none'}.",
        f"Python {platform.python_version()}, NumPy {np.__version__}, Gymnasium "
        f"{gymnasium.__version__}, Stable-Baselines3 {stable_baselines3.__version__}; "
        f"{os.cpu_count()} CPUs, {cpu}.",
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=960)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    print(*where(), "", sep="\n")
    print(f"| environment, n = {arguments.envs} | episodes | µs per environment and step |")
    print("|---|---|---|")
    print(*measure(arguments.envs, arguments.steps, arguments.repeats), sep="\n")


if __name__ == "__main__":
    main()
