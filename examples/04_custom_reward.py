"""A reward of your own in a weighted sum, a shadow reward that is only watched, and a dense reward.

    python examples/04_custom_reward.py [--steps 12000]

The sum pays for the letter "e" and, half as much, for different letters. The length rides along
with weight 0: its column in the table shows what optimising the others does to it. The dense reward
says which characters earned what, and each token then gets its own share.
"""

import argparse
import json
import tempfile
from pathlib import Path

import textgym
from textgym.reward_models import Length, WeightedSum

PROMPTS = ["The ", "A "]


class LetterE:
    """An object with a `name` and `__call__` is a reward model too."""

    name = "letter_e"

    def __call__(self, prompts, completions):
        return [min(text.count("e"), 8) / 8 for text in completions]


def variety(prompts, completions):
    """Different characters, of 16: pulls the other way."""
    return [min(len(set(text)), 16) / 16 for text in completions]


def dense_e(prompts, completions):
    """As `LetterE`, with a span `(start, end, amount)` for each "e" that earned something."""
    spans = [
        [(i, i + 1, 1 / 8) for i, letter in enumerate(text) if letter == "e"][:8]
        for text in completions
    ]
    scores = [sum(amount for _, _, amount in row) for row in spans]
    return textgym.RewardOutput(scores, spans=spans)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=12_000, help="completion tokens to train on")
    options = parser.parse_args()

    reward = WeightedSum(
        {
            "e": (LetterE(), 1.0),
            "variety": (variety, 0.5),
            "length": (Length(16, unit="characters"), 0.0),  # the shadow
        }
    )
    texts = ["geese see trees", "dull", "eeeeeeee"]
    answer = reward(["The "] * 3, texts)
    print("before any training, what the sum says:")
    for row, text in enumerate(texts):
        parts = ", ".join(f"{name} {values[row]:.2f}" for name, values in answer.components.items())
        print(f"    {text!r:<18} total {answer.scores[row]:.2f}  ({parts})")

    textgym.register("example/E-v0", prompts=PROMPTS, reward=reward, max_new_tokens=16)
    with tempfile.TemporaryDirectory() as folder:
        agent = textgym.make_agent(
            "ppo", "example/E-v0", n_envs=16, learning_rate=3e-3, seed=0, out=folder
        )
        agent.learn(options.steps)
        lines = (Path(folder) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if "reward/total" in row]
    print("tokens     total      e     variety  length (shadow)")
    for row in rows[:: max(1, len(rows) // 8)]:
        total, e, different, length = (
            row[f"reward{name}"]
            for name in ("/total", "_components/e", "_components/variety", "_components/length")
        )
        print(f"{row['step']:>6.0f} {total:>9.2f} {e:>6.2f} {different:>11.2f} {length:>16.2f}")

    env = textgym.make_vec("example/E-v0", n_envs=1, seed=0, reward=dense_e)
    env.reset()
    tokenizer = env.get_attr("tokenizer")[0]
    for token in [*tokenizer.encode("a tree!"), tokenizer.eos_token_id]:
        _, rewards, _, infos = env.step([token])
    split = [round(float(share), 3) for share in infos[0]["token_rewards"]]
    print(f"dense: 'a tree!' earns {rewards[0]:.3f}; by token {split}")


if __name__ == "__main__":
    main()
