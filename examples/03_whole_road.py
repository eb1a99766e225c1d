"""The whole road from raw text: corpus, language model, fine-tuning, reward model, RL, evaluation.

    python examples/03_whole_road.py [--steps 300] [--out runs/road]

A small slice of the bundled movie reviews stands for your own files; each verb here is also a verb
of the command line. A run this short teaches the road, not good English: `textgym demo` takes its
time.
"""

import argparse
import json
import tempfile
from pathlib import Path

import textgym
from textgym.envs.tasks import movie_reviews


def write_files(folder: Path, count: int) -> None:
    """Three files as you would bring them: a corpus, pairs to fine-tune on, people's ratings."""
    reviews = movie_reviews.load_movie_reviews("reward_model")[:count]
    lines = {"corpus.txt": [], "pairs.jsonl": [], "ratings.jsonl": []}
    for review in reviews:
        words = review.text.split(" ")
        if len(words) < 4:
            continue
        prompt = " ".join(words[:3])
        pair = {"prompt": prompt, "completion": review.text[len(prompt) :]}
        rated = {"text": review.text, "ratings": list(review.ratings), "block": review.block}
        lines["corpus.txt"].append(review.text)
        lines["pairs.jsonl"].append(json.dumps(pair))
        lines["ratings.jsonl"].append(json.dumps(rated))
    for name, content in lines.items():
        (folder / name).write_text("\n".join(content) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--steps", type=int, default=300, help="pretraining steps; the rest follows"
    )
    parser.add_argument("--out", type=Path, help="where the runs go (default: a temporary folder)")
    options = parser.parse_args()
    steps = options.steps

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_files(folder, count=min(3000, 20 * steps + 100))

        print("== pretrain: tokenizer and language model")
        textgym.pretrain(
            folder / "corpus.txt",
            out=folder / "lm",
            steps=steps,
            vocab_size=1024,
            hidden_size=64,
            num_hidden_layers=2,
            context=128,
            progress_bar=False,
        )
        print("== sft: continue a review's first words")
        textgym.sft(
            folder / "pairs.jsonl",
            policy=folder / "lm",
            out=folder / "sft",
            steps=max(2, steps // 5),
            progress_bar=False,
        )
        print("== fit_reward: what did people like better?")
        textgym.fit_reward(
            folder / "ratings.jsonl",
            policy=folder / "lm",
            out=folder / "rm",
            steps=max(2, steps // 3),
            progress_bar=False,
        )
        print("== train: PPO against that reward model, near the start by a KL term")
        textgym.train(
            "textgym/MovieReview-v0",
            policy=folder / "sft",
            reward=str(folder / "rm"),
            timesteps=100 * steps,
            n_steps=40,  # shorter rollouts than the default, as the whole training is short
            value_warmup_rollouts=1,
            learning_rate=1e-3,
            kl_coef=0.3,
            out=folder / "ppo",
            progress_bar=False,
        )
        print("== evaluate: held-out prompts, and a judge that no training has met")
        for label in ("sft", "ppo"):
            report = textgym.evaluate(
                "textgym/MovieReview-v0",
                policy=folder / label,
                reference=folder / "sft",
                gold="critic",
                prompts=movie_reviews.test_prompts(32),
            )
            print(
                f"{label}: judge {report.judges['critic']}, KL {report.kl}, "
                f"distinct-2 {report.distinct_2:.2f}, {report.length.mean:.1f} tokens a text"
            )
        first = report.episodes[0]
        print(f"    {first.prompt!r} -> {first.completion!r}")


if __name__ == "__main__":
    main()
