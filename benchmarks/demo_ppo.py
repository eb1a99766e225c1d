"""PPO where the demo with SmolLM2 takes GRPO: the same start, reward, β, adapter and tokens.

    python benchmarks/demo_policy.py --seeds 0 1 2
    python benchmarks/demo_ppo.py --seeds 0 1 2 --prompts 500

Start and reward model are those that the demo made (`--demos`). Unmodified PPO of
Stable-Baselines3, one epoch over a rollout of 1,024 tokens in minibatches of the demo's size; the
first rollout teaches only the value head. Runs that are done (`--runs`) are not made again. Some
thirteen minutes of one core a seed. Writes `benchmarks/results/demo_ppo.md`.
"""

import argparse
import sys
from pathlib import Path

from demo_seeds import titled, write
from model_defaults import bars_table, column, is_whole

import textgym
from textgym.demonstration.reviews import REWARD
from textgym.demonstration.settings import ENVIRONMENT, PolicySettings
from textgym.envs.tasks.movie_reviews import test_prompts


def trained(demo: Path, out: Path, seed: int, prompts: int) -> Path:
    """A run on the start and the reward model of a demo, made now unless it is whole."""
    settings = PolicySettings()
    if not is_whole(out, settings.evaluations * prompts):
        textgym.train(
            ENVIRONMENT,
            agent="ppo",
            policy=demo / "start",
            reward=f"{REWARD},model={demo / 'reward_model'},words={settings.fewest_words}",
            gold=("critic", "other_raters"),
            prompts=test_prompts(prompts),
            evaluations=settings.evaluations,
            timesteps=settings.timesteps,
            out=out,
            seed=seed,
            n_envs=settings.rows,
            temperature=settings.temperature,
            env_kwargs={
                "max_new_tokens": settings.max_new_tokens,
                "unfinished_score": settings.unfinished_score,
            },
            kl_coef=settings.kl_coef,
            learning_rate=settings.learning_rate,
            final_learning_rate=settings.learning_rate / 10,
            lora_rank=settings.lora_rank,
            n_steps=settings.max_new_tokens,
            batch_size=settings.batch_size,
            n_epochs=1,
            progress_bar=False,
            report=lambda line: None,
        )
    return out


def main() -> int:
    """Train what is not there, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--demos", type=Path, default=Path("runs/demo_policy"))
    parser.add_argument("--runs", type=Path, default=Path("runs/demo_ppo"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/demo_ppo.md"))
    arguments = parser.parse_args()
    columns = {
        f"seed {seed}": column(
            trained(
                arguments.demos / str(seed), arguments.runs / str(seed), seed, arguments.prompts
            )
        )
        for seed in arguments.seeds
    }
    title = f"PPO in the demo with SmolLM2, {arguments.prompts} held-out prompts"
    write(titled(title, bars_table(columns), 1), arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
