"""What a gradient step of DQN and QR-DQN costs on text, against a PPO minibatch of as many tokens.

    python benchmarks/q_update.py [--quick] [--threads 2] [--repeats 7] [--clock cpu]

One process; every repetition runs all variants in turn, after a warm-up, and ratios are taken
inside a repetition. What is timed is the unmodified agents' `train`. Writes
`benchmarks/results/q_update.md`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import where
from sb3_contrib import QRDQN
from stable_baselines3 import DQN
from stable_baselines3.common.logger import configure
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from token_world import (
    COMPLETION,
    ENVS,
    MINIBATCH,
    SHAPES,
    Shape,
    make_env,
    make_model,
    make_ppo,
)

from textgym.agents.rollouts.replay_buffer import EpisodeReplayBuffer
from textgym.policies.sb3.q_policy import TextQPolicy
from textgym.policies.sb3.quantile_network import TextQuantilePolicy

STEPS = ENVS * COMPLETION // MINIBATCH
Q_POLICIES = {DQN: TextQPolicy, QRDQN: TextQuantilePolicy}


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    header = where(arguments.threads)
    shape = SHAPES["tiny" if arguments.tiny else "small"]
    cases, heads = {}, {}
    cases["PPO"] = _ppo(shape)
    for name, cls, policy, buffer in (
        ("DQN, returns to the end", DQN, {}, {}),
        ("DQN, 8-step returns", DQN, {}, {"n_steps": 8}),
        ("QR-DQN, 8 quantiles", QRDQN, {"n_quantiles": 8}, {}),
        ("QR-DQN, 32 quantiles", QRDQN, {"n_quantiles": 32}, {}),
    ):
        agent = _q_agent(cls, shape, policy, buffer)
        heads[name] = sum(p.numel() for p in agent.policy.network.value_net.parameters())
        cases[name] = _train(agent)
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    seconds = measure(cases, arguments.repeats, clock)
    header.append(
        f"- {arguments.repeats} interleaved repetitions after a warm-up; {arguments.clock} time; "
        f"{MINIBATCH} acted tokens a step, prompt 16, completion {COMPLETION}; model: "
        f"{shape.layers} layers × {shape.hidden}, untied head of 4,096 words, float32, Adam"
    )
    text = page(header, seconds, heads)
    print(text)
    path = Path(arguments.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def _ppo(shape: Shape) -> Callable[[], None]:
    agent = make_ppo(shape, make_env(), COMPLETION, n_epochs=1)
    _, callback = agent._setup_learn(10**9, None)
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, agent.n_steps)  # type: ignore[arg-type]
    return agent.train


def _q_agent(cls: Any, shape: Shape, policy: dict[str, Any], buffer: dict[str, Any]) -> Any:
    """An agent with four rollouts in its buffer, Adam as PPO has it."""
    adam = {"optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"eps": 1e-5}}
    agent = cls(
        Q_POLICIES[cls],
        make_env(),
        policy_kwargs={"model": make_model(shape), **adam, **policy},
        replay_buffer_class=EpisodeReplayBuffer,
        replay_buffer_kwargs={"pad_token_id": 0, **buffer},
        buffer_size=4 * ENVS * COMPLETION,
        learning_starts=0,
        exploration_initial_eps=0.0,
        exploration_final_eps=0.0,
        device="cpu",
        seed=0,
    )
    agent.set_logger(configure(None, []))
    _, callback = agent._setup_learn(10**9, None)
    frequency = TrainFreq(4 * COMPLETION, TrainFrequencyUnit.STEP)
    agent.collect_rollouts(agent.env, callback, frequency, agent.replay_buffer)
    return agent


def _train(agent: Any) -> Callable[[], None]:
    return lambda: agent.train(gradient_steps=STEPS, batch_size=MINIBATCH)


def measure(
    cases: dict[str, Callable[[], None]], repeats: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of one gradient step of every case, one entry a repetition."""
    for run in cases.values():  # warm-up
        run()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    for repetition in range(repeats):
        shift = repetition % len(names)  # another neighbour each time
        for name in names[shift:] + names[:shift]:
            start = clock()
            cases[name]()
            seconds[name].append((clock() - start) / STEPS)
        print(f"{repetition + 1}/{repeats}", flush=True)
    return seconds


def page(header: list[str], seconds: dict[str, list[float]], heads: dict[str, int]) -> str:
    """The results as Markdown."""
    rows = [
        "| a gradient step of | ms | ÷ PPO's minibatch | range | bar | weights of the value head |",
        "|---|---|---|---|---|---|",
    ]
    for name, times in seconds.items():
        ratios = sorted(t / ppo for t, ppo in zip(times, seconds["PPO"], strict=True))
        bar = "≤ 1.5" if name == "DQN, returns to the end" else ""
        rows.append(
            f"| {name} | {1e3 * statistics.median(times):.0f} | {statistics.median(ratios):.2f} | "
            f"{ratios[0]:.2f}–{ratios[-1]:.2f} | {bar} | {heads.get(name, ''):,} |"
            if name in heads
            else f"| {name} | {1e3 * statistics.median(times):.0f} | 1 | | | |"
        )
    return "\n".join(["# A gradient step of DQN and QR-DQN on text", "", *header, "", *rows]) + "\n"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="2 repetitions: a look, not a figure")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: processor time, for one thread on a machine that others use too",
    )
    parser.add_argument("--tiny", action="store_true", help="a tiny model: does the script run?")
    default = Path(__file__).resolve().parent / "results" / "q_update.md"
    parser.add_argument("--out", default=str(default))
    arguments = parser.parse_args()
    if arguments.clock == "cpu" and arguments.threads > 1:
        parser.error("--clock cpu adds up the threads: use it with --threads 1")
    if arguments.quick:
        arguments.repeats = 2
    return arguments


if __name__ == "__main__":
    main()
