"""What reward models can give on a policy's own texts: the best of n by each, read by a judge.

    python benchmarks/reward_frontier.py --policy start runs/demo_policy/0/start \\
        --reward floored_crowd floored_crowd,words=8

The best of n is the policy that is nearest to the start for what it earns, or next to it (KL ln n -
(n - 1) / n; Gao et al. 2023, "Scaling Laws for Reward Model Overoptimization"), and needs no
training: where it does not move the judge, or makes texts longer, that is the reward, and no rate
will mend it. n texts of each validation prompt of the movie reviews, drawn at temperature 1;
correlations are inside a prompt. Three minutes of a core for SmolLM2-135M. Writes
`benchmarks/results/reward_frontier.md`.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from demo_seeds import titled, write

import textgym
from textgym.agents.evaluation.bundled_rewards import critic
from textgym.agents.evaluation.play import Episode
from textgym.agents.evaluation.report import Interval
from textgym.demonstration.record import known_words
from textgym.envs.tasks.movie_reviews import validation_prompts
from textgym.rewards import Reward, call_reward
from textgym.rewards_by_name import resolve_reward
from textgym.text_metrics.metrics import made_up_words

ENVIRONMENT = "textgym/MovieReview-v0"
Columns = dict[str, np.ndarray]


def drawn(policy: str, prompts: Sequence[str], n: int) -> tuple[list[Episode], Columns]:
    """n texts of each prompt, and `[prompts, n]` of what no reward is asked for."""
    texts = textgym.evaluate(
        ENVIRONMENT, policy=policy, prompts=[prompt for prompt in prompts for _ in range(n)]
    ).episodes
    words = known_words()
    figures = {
        "judge": scored(critic(), texts),
        "tokens": [len(text.acted) for text in texts],
        "made-up words": [made_up_words([text.completion], words) for text in texts],
    }
    return texts, {name: np.reshape(values, (-1, n)) for name, values in figures.items()}


def scored(reward: Reward, texts: Sequence[Episode]) -> Any:
    """What a reward model says of each text, float64."""
    prompts, completions = [t.prompt for t in texts], [t.completion for t in texts]
    return call_reward(reward, prompts, completions, {}).scores


def best_of(columns: Columns, n: int) -> Columns:
    """Each figure of the best of the first n by reward, `[prompts]`."""
    chosen = columns["reward"][:, :n].argmax(1)
    return {name: values[np.arange(len(values)), chosen] for name, values in columns.items()}


def inside(columns: Columns, a: str, b: str) -> float:
    """Correlation of two figures inside a prompt, all prompts together."""
    first, second = (columns[k] - columns[k].mean(1, keepdims=True) for k in (a, b))
    return float((first * second).sum() / math.sqrt((first**2).sum() * (second**2).sum()))


def table(columns: Columns) -> list[str]:
    """A row for each n that is a power of two."""
    start = best_of(columns, 1)
    lines = ["| best of | KL at most | reward | judge | length | made-up words |"]
    lines.append("|---|---|---|---|---|---|")
    for n in (2**k for k in range(int(math.log2(columns["reward"].shape[1])) + 1)):
        best = best_of(columns, n)
        lines.append(
            f"| {n} | {math.log(n) - (n - 1) / n:.2f} | {best['reward'].mean():.2f} | "
            f"{Interval.of(best['judge'])} | "
            f"{best['tokens'].mean() / start['tokens'].mean():.2f} | "
            f"{best['made-up words'].mean():.3f} |"
        )
    pairs = (("reward", "judge"), ("reward", "tokens"), ("judge", "tokens"))
    said = (f"{a} and {b} {inside(columns, a, b):.2f}" for a, b in pairs)
    return [*lines, "", f"Correlations inside a prompt: {', '.join(said)}.", ""]


def main() -> int:
    """Draw, choose and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", nargs="+", default=["start"])
    parser.add_argument("--reward", nargs="+", default=["floored_crowd"])
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--texts", type=int, default=16, help="of each prompt")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/reward_frontier.md"))
    arguments = parser.parse_args()
    prompts = validation_prompts(arguments.prompts)
    lines: list[str] = []
    for policy in arguments.policy:
        texts, columns = drawn(policy, prompts, arguments.texts)
        for name in arguments.reward:
            paid = np.reshape(scored(resolve_reward(name), texts), (-1, arguments.texts))
            lines += [f"## {policy}, paid by {name}", "", *table({"reward": paid, **columns})]
    write(titled("The best of n by a reward model", lines, 1), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
