"""Does an adversarial reward make text more real, to a reader that neither side has seen?

    python -m benchmarks.adversarial --policy FINE_TUNED [--seeds 3] [--timesteps 40000]

Trains the bundled start, fine-tuned on movie reviews, with `adversarial` and PPO. Texts before and
after continue held-out prompts; bits per character are those of n-grams of the held-out movies'
reviews, which no model here reads. Some three minutes a seed on one core.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.machine import where

ENVIRONMENT = "textgym/MovieReview-v0"


def one(policy: Path, seed: int, timesteps: int, prompts: int, folder: Path) -> dict[str, float]:
    """The figures of one seed, before and after."""
    import textgym
    from textgym.demonstration.record import known_words
    from textgym.envs.tasks.movie_reviews import test_prompts

    out = folder / f"seed-{seed}"
    textgym.train(
        ENVIRONMENT,
        policy=policy,
        agent="ppo",
        reward="adversarial,features=start",
        timesteps=timesteps,
        out=out,
        seed=seed,
        n_envs=32,
        kl_coef=0.05,
        learning_rate=1.5e-4,
        final_learning_rate=1.5e-5,
        temperature=0.8,
        env_kwargs={"max_new_tokens": 40},
        progress_bar=False,
        report=lambda line: None,
    )
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    accuracies = [r["adversarial/accuracy"] for r in rows if "adversarial/accuracy" in r]
    figures = {"accuracy, first 5": mean(accuracies[:5]), "accuracy, last 5": mean(accuracies[-5:])}
    for name, judged in (("before", policy), ("after", out)):
        report = textgym.evaluate(
            ENVIRONMENT,
            policy=judged,
            reward="length",
            prompts=test_prompts(prompts),
            seed=seed,
            gold=("critic",),
            reader="reviews",
            vocabulary=known_words(),
            env_kwargs={"max_new_tokens": 40},
            temperature=0.8,
        ).figures()
        figures |= {
            f"bits per character, {name}": report["bits_per_character"][0],
            f"distinct-2, {name}": report["distinct_2"],
            f"made-up words, {name}": report["made_up"],
            f"critic, {name}": report["judges"]["critic"][0],
        }
    print(seed, json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def mean(values: list[float]) -> float:
    """NaN of none."""
    return sum(values) / len(values) if values else float("nan")


def main() -> int:
    """Train, evaluate, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--timesteps", type=int, default=40_000)
    parser.add_argument("--prompts", type=int, default=250)
    parser.add_argument("--policy", type=Path, required=True, help="a fine-tuned start")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = [
            one(arguments.policy, seed, arguments.timesteps, arguments.prompts, Path(folder))
            for seed in range(arguments.seeds)
        ]
    names = list(found[0])
    lines = [
        f"# An adversarial reward, {arguments.timesteps:,} tokens of PPO",
        "",
        f"| seed | {' | '.join(names)} |",
        f"|---|{'---|' * len(names)}",
        *(
            f"| {seed} | {' | '.join(f'{figures[name]:.3f}' for name in names)} |"
            for seed, figures in enumerate(found)
        ),
        "",
        *where(1),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if arguments.out:
        arguments.out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
