"""Latent actions on a task whose best z is known in closed form: who finds it, in how many texts?

    python benchmarks/latent_oracle.py [--seeds 3] [--texts 2500] [--words sac td3 ...]
    python benchmarks/latent_oracle.py --words td3 --texts 4000 --rate 3e-4

The prompt is a number x, one of five; the decoder writes z down in figures; a text earns 1 minus
its squared distance to (x, -x/2). So the best mean reward is 1, at z = (x, -x/2), the best z that
does not look at the prompt earns -0.406, and what is earned is the share of the optimum. Bar: the
agent's best z earns 0.95 in every seed, and with the same rewards shuffled among the texts of a
batch in none. Each training is appended to `--rows` as it ends, and what stands there is not made
again. Writes `benchmarks/results/latent_oracle.md`.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from machine import where  # the module beside this one
from stable_baselines3.common.callbacks import BaseCallback

import textgym
from textgym.agents.evaluation import SequentialPrompts
from textgym.latent_decoders import check_latents
from textgym.tokenizer import Tokenizer

RESULTS = Path(__file__).resolve().parent / "results" / "latent_oracle.md"
ID = "bench/LatentOracle-v0"
NUMBERS = (-1.5, -0.75, 0.0, 0.75, 1.5)
BAR = 0.95
BARRED = ("sac", "td3", "tqc", "crossq", "ppo", "a2c")  # those with a bar
WORDS = (*BARRED, "ddpg", "trpo", "ars")
LOOK_EVERY = 100  # texts between two looks at the agent's best z
Reward = Callable[[Sequence[str], Sequence[str]], list[float]]


class NumberDecoder:
    """Writes z down in figures; what the encoder sees of a prompt is its number."""

    latent_size, observation_size = 2, 1

    def __init__(self) -> None:
        self.tokenizer = Tokenizer.byte()

    def encode_prompts(self, prompts: Sequence[str]) -> np.ndarray:
        """float32 [b, 1]."""
        return np.array([[number_of(prompt)] for prompt in prompts], np.float32)

    def decode_latents(
        self,
        latents: np.ndarray,
        prompts: Sequence[str] | None = None,
        *,
        rng: np.random.Generator | None = None,
        max_new_tokens: int,
    ) -> list[list[int]]:
        """Such as "0.750 -0.375"."""
        rows = check_latents(latents, 2)
        return [self.tokenizer.encode(" ".join(f"{x:.3f}" for x in row)) for row in rows]


def number_of(prompt: str) -> float:
    """The x of "x:"."""
    return float(prompt.partition(":")[0])


def near(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
    """1 minus the squared distance of the text's numbers to (x, -x/2)."""
    scores = []
    for prompt, completion in zip(prompts, completions, strict=True):
        x = number_of(prompt)
        z = np.array([float(part) for part in completion.split()])
        scores.append(1.0 - float(((z - [x, -x / 2]) ** 2).sum()))
    return scores


def shuffled(seed: int) -> Reward:
    """The same rewards, each given to another text of its batch, never to its own.

    A plain permutation of 16 leaves each its own one time in 16, which is enough to learn from.
    """
    rng = np.random.default_rng(seed)

    def reward(prompts: Sequence[str], completions: Sequence[str]) -> list[float]:
        order = rng.permutation(len(prompts))
        scores = np.array(near(prompts, completions))
        scores[order] = np.roll(scores[order], 1)
        return scores.tolist()

    return reward


class Looks(BaseCallback):
    """What the agent's best z earns on the five prompts, every so many texts."""

    def __init__(self) -> None:
        super().__init__()
        self.looks: list[tuple[int, float]] = []
        self.env = textgym.make_vec(
            ID,
            len(NUMBERS),
            seed=0,
            decoder=NumberDecoder(),
            reward=near,
            prompts=in_turn(),
            max_prompt_tokens=8,
        )

    def _on_rollout_start(self) -> None:
        if self.num_timesteps >= LOOK_EVERY * len(self.looks):
            self.look()

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.look()

    def look(self) -> None:
        """One evaluation."""
        z, _ = self.model.predict(self.env.reset(), deterministic=True)
        self.looks.append((self.model.num_timesteps, float(self.env.step(z)[1].mean())))


def in_turn() -> SequentialPrompts:
    """The five prompts, each once and again."""
    return SequentialPrompts([f"{x:.2f}:" for x in NUMBERS] * 10_000)


@dataclass(frozen=True)
class Result:
    """A training, and what it came to.

    :param first: texts after which the bar was first reached; None: never.
    """

    word: str
    seed: int
    is_shuffled: bool
    share: float
    best: float
    first: int | None
    seconds: float


def run(
    word: str, seed: int, texts: int, *, is_shuffled: bool, rate: float | None = None
) -> Result:
    """Train one agent."""
    looks, start = Looks(), time.process_time()
    agent = textgym.make_agent(
        word,
        ID,
        decoder=NumberDecoder(),
        reward=shuffled(seed) if is_shuffled else near,
        seed=seed,
        n_envs=16,
        **({} if rate is None else {"learning_rate": rate}),
    )
    agent.learn(texts, callback=looks)
    first = next((step for step, share in looks.looks if share >= BAR), None)
    best = max(share for _, share in looks.looks)
    seconds = time.process_time() - start
    return Result(word, seed, is_shuffled, looks.looks[-1][1], best, first, seconds)


def made(file: Path) -> list[Result]:
    """The trainings that are done already."""
    if not file.is_file():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()
    return [Result(**json.loads(line)) for line in lines]


def row(word: str, results: Sequence[Result], seeds: int) -> str:
    """A word's line of the table."""
    true = [r for r in results if r.word == word and not r.is_shuffled]
    false = [r for r in results if r.word == word and r.is_shuffled]
    reached = sum(r.share >= BAR for r in true)
    held = reached == len(true) and all(r.best < BAR for r in false)
    first = [str(r.first) if r.first is not None else "never" for r in true]
    if min(len(true), len(false)) < seeds:
        verdict = "not finished"
    else:
        verdict = "held" if held else "**missed**" if word in BARRED else "missed (no bar)"
    return (
        f"| {word} | {', '.join(f'{r.share:.3f}' for r in true)} | {reached} of {len(true)} "
        f"| {', '.join(first)} | {', '.join(f'{r.share:.2f}' for r in false)} "
        f"| {statistics.mean(r.seconds for r in true):.0f} | {verdict} |"
    )


def page(results: Sequence[Result], texts: int, seeds: int, provenance: Sequence[str]) -> str:
    """The results as Markdown."""
    missing = [word for word in WORDS if all(r.word != word for r in results)]
    words = [word for word in WORDS if any(r.word == word for r in results)]
    return "\n".join(
        [
            "# Latent actions against a known optimum",
            "",
            f"Mean reward of the agent's best z after {texts:,} texts, a figure a seed; 1 is the "
            "optimum, the best z that is the same for all prompts earns −0.41. "
            f"Bar: {BAR} in every seed, with shuffled rewards at no moment.",
            "",
            f"| word | share of the optimum | at {BAR} | texts until then | shuffled | seconds | |",
            "|---|---|---|---|---|---|---|",
            *(row(word, results, seeds) for word in words),
            "",
            *([f"Not made yet: {', '.join(missing)}.", ""] if missing else []),
            *provenance,
            "",
        ]
    )


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=2500)
    parser.add_argument("--rate", type=float, help="of learning; without it the word's default")
    parser.add_argument("--words", nargs="+", default=WORDS, choices=WORDS)
    parser.add_argument("--rows", type=Path, default=Path("runs/latent_oracle.jsonl"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    provenance = where(1)
    prompts = [f"{x:.2f}:" for x in NUMBERS]
    tokenizer = NumberDecoder().tokenizer
    textgym.register(ID, prompts=prompts, reward=near, max_new_tokens=24, tokenizer=tokenizer)
    options.rows.parent.mkdir(parents=True, exist_ok=True)
    results = made(options.rows)
    for word in options.words:
        for seed in range(options.seeds):
            for is_shuffled in (False, True):
                case = (word, seed, is_shuffled)
                if case in {(r.word, r.seed, r.is_shuffled) for r in results}:
                    continue
                rate = options.rate
                found = run(word, seed, options.texts, is_shuffled=is_shuffled, rate=rate)
                results.append(found)
                with open(options.rows, "a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(results[-1])) + "\n")
        print(row(word, results, options.seeds), flush=True)
    options.out.write_text(
        page(results, options.texts, options.seeds, provenance), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
