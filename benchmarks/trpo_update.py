"""TRPO's update with the policy's shared backward pass, against SB3's own distribution.

    python benchmarks/trpo_update.py [--tokens 320] [--repeats 3] [--threads 1]

The same unmodified `sb3_contrib.TRPO` on the same rollout; only what `get_distribution` returns
differs. Every update runs in a process of its own, in turn, so that its peak of memory is its own.
Writes `benchmarks/results/trpo_update.md`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from machine import where
from sb3_contrib import TRPO
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.logger import configure
from token_world import ENVS, Shape, make_env, make_model

from textgym.agents.rollouts.rollout_buffer import EpisodeRolloutBuffer
from textgym.policies.sb3.actor_critic import TextActorCriticPolicy


class PlainPolicy(TextActorCriticPolicy):
    """The policy with SB3's distribution: a backward pass for each weight tensor."""

    def get_distribution(self, obs):  # type: ignore[no-untyped-def, override]
        """See the base class."""
        logits = super().get_distribution(obs).distribution.logits
        return CategoricalDistribution(logits.shape[-1]).proba_distribution(logits)


VARIANTS = {"a pass for each weight (SB3's distribution)": PlainPolicy}
VARIANTS["one pass for all weights (ours)"] = TextActorCriticPolicy


def update(variant: str, tokens: int, threads: int) -> dict[str, float]:
    """Seconds of one update, peak memory of the process in GB, and the weight tensors."""
    torch.set_num_threads(threads)
    n_steps = tokens // ENVS
    agent = TRPO(
        VARIANTS[variant],
        make_env(),
        policy_kwargs={"model": make_model(Shape())},
        rollout_buffer_class=EpisodeRolloutBuffer,
        rollout_buffer_kwargs={"pad_token_id": 0},
        n_steps=n_steps,
        batch_size=tokens,
        device="cpu",
        seed=0,
    )
    agent.set_logger(configure(None, []))
    _, callback = agent._setup_learn(10**9, None)
    agent.collect_rollouts(agent.env, callback, agent.rollout_buffer, n_steps)  # type: ignore[arg-type]
    begin = time.perf_counter()
    agent.train()
    return {
        "seconds": time.perf_counter() - begin,
        "gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "tensors": sum(1 for _ in agent.policy.lm.parameters()),
    }


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    if arguments.one:
        print(json.dumps(update(arguments.one, arguments.tokens, arguments.threads)))
        return
    header = where(arguments.threads)
    command = [sys.executable, __file__, "--tokens", str(arguments.tokens)]
    command += ["--threads", str(arguments.threads), "--one"]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    for _ in range(arguments.repeats):
        for name, found in rows.items():
            done = subprocess.run([*command, name], capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(name, found[-1], flush=True)
    plain, ours = rows.values()
    ratios = sorted(p["seconds"] / o["seconds"] for p, o in zip(plain, ours, strict=True))
    lines = [
        "# TRPO's update on text",
        "",
        *header,
        f"- {arguments.repeats} updates each, in turn, a process each; {arguments.tokens} tokens, "
        f"{plain[0]['tensors']} weight tensors; 10 steps of conjugate gradients",
        "",
        "| gradients of objective and divergence | seconds an update | peak memory, GB |",
        "|---|---|---|",
    ]
    for name, found in rows.items():
        seconds = statistics.median(row["seconds"] for row in found)
        lines.append(f"| {name} | {seconds:.1f} | {max(r['gigabytes'] for r in found):.1f} |")
    middle = statistics.median(ratios)
    lines += ["", f"Time: {middle:.1f} times ({ratios[0]:.1f} to {ratios[-1]:.1f}).", ""]
    text = "\n".join(lines)
    print(text)
    Path(arguments.out).write_text(text, encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--tokens", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--one", choices=list(VARIANTS), help=argparse.SUPPRESS)
    default = Path(__file__).resolve().parent / "results" / "trpo_update.md"
    parser.add_argument("--out", default=str(default))
    return parser.parse_args()


if __name__ == "__main__":
    main()
