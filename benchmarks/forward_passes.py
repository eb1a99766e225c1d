"""How often each algorithm sends its tokens through a model: counted, not timed.

    python benchmarks/forward_passes.py

One causal pass gives all the positions of a segment, so the unit is a pass over the tokens at hand:
1.0 in the column "an optimizer step" says that SB3 or the loss evaluates the policy once and every
segment is read once. Writes `benchmarks/results/forward_passes.md`.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from machine import where

import textgym
from textgym import registry
from textgym.policies.language_model.decoder import Decoder

TASK = "textgym/Length-v0"
WITH_KL = ("ppo", "a2c", "trpo", "maskable_ppo", "nlpo", "grpo", "rloo", "reinforce", "dpo")


class Counter:
    """Calls and tokens of every decoder, by phase."""

    def __init__(self) -> None:
        self.phase = "rollout"
        self.calls = {"rollout": 0, "update": 0}
        self.tokens = {"rollout": 0, "update": 0}

    def __call__(self, module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, Decoder):
            self.calls[self.phase] += 1
            self.tokens[self.phase] += len(arguments[0])


def count(name: str) -> dict[str, float]:
    """The figures of two rollouts and updates of one algorithm."""
    keywords: dict[str, Any] = {"kl_coef": 0.05} if name in WITH_KL else {}
    agent = textgym.make_agent(name, TASK, n_envs=8, seed=0, **keywords)
    counter, steps = Counter(), [0]
    learn = agent.train
    optimizer = agent.policy.optimizer
    step = optimizer.step

    def train(*arguments: Any, **options: Any) -> None:
        counter.phase = "update"
        learn(*arguments, **options)
        counter.phase = "rollout"

    def counted_step(*arguments: Any, **options: Any) -> Any:
        steps[0] += 1
        return step(*arguments, **options)

    agent.train, optimizer.step = train, counted_step  # type: ignore[method-assign]
    hook = torch.nn.modules.module.register_module_forward_pre_hook(counter)
    try:
        agent.learn(2 * 8 * getattr(agent, "n_steps", 1) if name != "dqn" else 4096)
    finally:
        hook.remove()
    return {
        "tokens": agent.num_timesteps,
        "steps": steps[0],
        "rollout": counter.tokens["rollout"] / agent.num_timesteps,
        "calls": counter.calls["update"] / max(steps[0], 1),
        "update": counter.tokens["update"] / agent.num_timesteps,
    }


def main() -> int:
    """Count, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    default = Path(__file__).resolve().parent / "results" / "forward_passes.md"
    parser.add_argument("--out", type=Path, default=default)
    out = parser.parse_args().out
    lines = [
        "# Forward passes",
        "",
        "| agent | tokens read in a rollout, per completion token (KL reference included) | passes "
        "of a model in an optimizer step | tokens read in updates, per completion token |",
        "|---|---|---|---|",
    ]
    for name in registry.agents.names():
        row = count(name)
        lines.append(
            f"| {name} | {row['rollout']:.2f} | {row['calls']:.2f} | {row['update']:.2f} |"
        )
    text = "\n".join([*lines, "", f"{TASK}, 8 environments, make_agent's defaults.", ""])
    text += "\n".join(where(torch.get_num_threads())) + "\n"
    print(text)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
