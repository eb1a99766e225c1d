"""The ready-made study: five reward models on the movie reviews, under PPO and GRPO.

    python -m benchmarks.reward_study [--seeds 5] [--timesteps 40000] [--out runs/reward_study]

First a reward model is fitted to people's ratings on a trunk; then `textgym compare` does the rest:
people's ratings on a trunk and on n-grams, a word list, a length, and a reward built to be hacked
(`benchmarks/praise.py`), judged by critics' verdicts and by raters of other kinds of texts on the
prompts of movies that nothing has seen. From the root of the checkout, since `praise` is named by
its module. What is finished is not made again. Prints the command that it stands for.
"""

import argparse
import json
import shlex
from pathlib import Path

import textgym
from textgym.envs.tasks.movie_reviews import load_movie_reviews, test_prompts

ENVIRONMENT = "textgym/MovieReview-v0"
REWARD_STEPS = 354  # one pass over the ratings, as in the demo
PROMPTS = 200


def prepare(out: Path) -> tuple[Path, Path]:
    """The reward model on people's ratings, and the file of held-out prompts."""
    out.mkdir(parents=True, exist_ok=True)
    ratings, prompts, model = out / "ratings.jsonl", out / "prompts.txt", out / "people_trunk"
    if not (model / "checkpoints/best/reward_model.json").is_file():
        rows = [
            {"text": review.text, "ratings": list(review.ratings), "block": review.block}
            for review in load_movie_reviews("reward_model")
        ]
        ratings.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        textgym.fit_reward(
            ratings, policy="start", out=model, steps=REWARD_STEPS, muon_learning_rate=0.005
        )
    prompts.write_text("".join(f"{p}\n" for p in test_prompts(PROMPTS)), encoding="utf-8")
    return model, prompts


def main() -> None:
    """Fit, train, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", default="5")
    parser.add_argument("--timesteps", type=int, default=40_000)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--out", type=Path, default=Path("runs/reward_study"))
    arguments = parser.parse_args()
    model, prompts = prepare(arguments.out)
    study = arguments.out / "study"
    rewards = [str(model), "crowd", "lexicon", "length,target=20", "benchmarks.praise:praise"]
    textgym.compare(
        ENVIRONMENT,
        policy="start",
        agent=["ppo", "grpo"],
        reward=rewards,
        gold=["critic", "other_raters"],
        seeds=arguments.seeds,
        timesteps=arguments.timesteps,
        prompts=prompts,
        out=study,
        jobs=arguments.jobs,
        keep=2,
        env_kwargs={"max_new_tokens": 40},
        temperature=0.8,
        kl_coef=0.1,
        learning_rate=7.5e-5,
        final_learning_rate=7.5e-6,
    )
    print(f"textgym report {shlex.quote(str(study))}")


if __name__ == "__main__":
    main()
