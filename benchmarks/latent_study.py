"""Latent actions on the movie reviews: nine algorithms on z beside what needs no training.

    python benchmarks/latent_study.py [--runs runs/latent_study] [--seeds 5] [--texts 8000] [--page]

A conditional text VAE, which begins as the start model and is trained on the reviews of the
training splits, is the decoder of all rows but the last two. Reward `crowd`, judge `critic`, 500
held-out prompts of three words. Rows: z from the prior; the best z that is the same for all prompts
(the cross-entropy method); the best of n z by the reward, n such that as many texts are decoded in
all; the nine words of `make_agent(..., decoder=...)`; the start model and PPO on tokens from it
with as many texts. Each row is appended to `rows.jsonl` as it comes, and what stands there is not
made again.
`--page` only writes `benchmarks/results/latent_study.md` from the rows that there are.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import where  # the module beside this one
from stable_baselines3.common.callbacks import BaseCallback

import textgym
from textgym.agents.evaluation import SequentialPrompts
from textgym.agents.evaluation.bundled_rewards import critic, crowd, other_domain_raters
from textgym.agents.evaluation.latent_play import (
    Choose,
    constant_latents,
    play_latents,
    policy_latents,
    prior_latents,
)
from textgym.agents.evaluation.play import Episode
from textgym.agents.evaluation.readers import review_reader
from textgym.agents.evaluation.report import evaluate_texts
from textgym.demonstration.record import known_words
from textgym.envs.tasks.movie_reviews import (
    TRAINING_SPLITS,
    load_critic_snippets,
    review_texts,
    test_prompts,
    validation_prompts,
)
from textgym.policies import CausalLM, TextVAE

RESULTS = Path(__file__).resolve().parent / "results" / "latent_study.md"
START = Path(textgym.__file__).parent / "policies" / "start"
ID = "textgym/MovieReview-v0"
WORDS = ("sac", "td3", "ppo", "crossq", "tqc", "a2c", "ddpg", "trpo", "ars")
BARRED = ("sac", "td3")
PRIOR, CONSTANT, BEST = "z from the prior", "best constant z", "best of n"
UNTRAINED, TOKENS = "start model, tokens", "ppo on tokens"
NEW_TOKENS = 40
PRIOR_COEF = 0.05
VAE: dict[str, Any] = {"latent_size": 16, "context": 80, "learning_rate": 5e-4}
TOKEN_SETTINGS = {"kl_coef": 0.2, "learning_rate": 1.5e-4, "temperature": 0.8}
Row = dict[str, Any]


# ---- the decoder -----------------------------------------------------------


def reviews() -> list[str]:
    """The texts that a model of ours may see: rated reviews and critics' snippets."""
    texts = [text for split in TRAINING_SPLITS for text in review_texts(split)]
    for split in TRAINING_SPLITS:
        texts += [snippet.text for snippet in load_critic_snippets(split)]
    return list(dict.fromkeys(texts))


def pairs(texts: Sequence[str], tokenizer: textgym.Tokenizer) -> list[dict[str, str]]:
    """First two and three words of each text, and the rest; those that fit the budget."""
    made = []
    for text in texts:
        words = text.split(" ")
        for count in (2, 3):
            start = " ".join(words[:count])
            rest = text[len(start) :]
            if len(words) >= count + 3 and len(tokenizer.encode(rest)) <= NEW_TOKENS:
                made.append({"prompt": start, "completion": rest})
    return made


def decoder(folder: Path, steps: int) -> TextVAE:
    """The autoencoder, trained where it is not there yet."""
    if not (folder / "checkpoints").is_dir():
        start = time.process_time()
        rows = pairs(reviews(), textgym.Tokenizer.load(START))
        report = textgym.pretrain_vae(
            rows,
            out=folder,
            conditional=True,
            policy=START,
            steps=steps,
            progress_bar=False,
            **VAE,
        )
        seconds = time.process_time() - start
        told = {"pairs": len(rows), "seconds": seconds, "steps": steps, **report.figures}
        (folder / "told.json").write_text(json.dumps(told), encoding="utf-8")
    return TextVAE.from_pretrained(folder)


# ---- what is written, and what is said of it -------------------------------


class Exam:
    """The held-out prompts, and everything that is measured of texts on them."""

    def __init__(self, vae: TextVAE, prompts: Sequence[str], decoding: str) -> None:
        self.vae, self.prompts = vae, list(prompts)
        self.fields = {"max_new_tokens": NEW_TOKENS, "decoding": decoding}
        self.start = CausalLM.from_pretrained("start")
        self.known = known_words()

    def play(self, choose: Choose) -> list[Episode]:
        """The texts of z on the prompts."""
        env = textgym.make_vec(
            ID,
            100,
            seed=0,
            decoder=self.vae,
            reward="crowd",
            prompts=SequentialPrompts(self.prompts),
            max_prompt_tokens=24,
            **self.fields,
        )
        return play_latents(choose, env, len(self.prompts))

    def figures(self, episodes: Sequence[Episode]) -> dict[str, Any]:
        """As `EvaluationReport.figures`."""
        report = evaluate_texts(
            episodes,
            judges={"critic": critic(), "other_raters": other_domain_raters()},
            reference=self.start,
            vocabulary=self.known,
            reader=review_reader(),
        )
        return report.figures()


def best_constant(
    exam: Exam, texts: int, seed: int, *, candidates: int = 25, prompts: int = 32
) -> np.ndarray:
    """The z that earns most on training prompts, all alike, by the cross-entropy method.

    Rubinstein and Kroese 2004: draw candidates from a Gaussian, fit it to the best fifth, again.
    It begins as the prior, and pays the prior's penalty as the agents do.

    :param texts: that may be decoded in all.
    """
    rng = np.random.default_rng(seed)
    env = textgym.make_vec(ID, prompts, seed=seed, decoder=exam.vae, reward="crowd", **exam.fields)
    mean, deviation = np.zeros(exam.vae.latent_size), np.ones(exam.vae.latent_size)
    for _ in range(texts // (candidates * prompts)):
        drawn = np.clip(mean + deviation * rng.standard_normal((candidates, len(mean))), -3, 3)
        earned = [
            np.mean([e.reward for e in play_latents(constant_latents(z), env, prompts)])
            - PRIOR_COEF * 0.5 * float(z @ z)
            for z in drawn
        ]
        elite = drawn[np.argsort(earned)[-candidates // 5 :]]
        mean, deviation = elite.mean(axis=0), 0.1 + elite.std(axis=0)
    return mean


def best_of(exam: Exam, n: int, seed: int) -> list[Episode]:
    """Of n z from the prior for each prompt the one whose text earns most."""
    choose = prior_latents(exam.vae.latent_size, seed)
    tries = [exam.play(choose) for _ in range(n)]
    return [max(tried, key=lambda e: e.reward) for tried in zip(*tries, strict=True)]


class Curve(BaseCallback):
    """Mean reward of the texts since the last look, every 500 texts."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[tuple[int, float]] = []
        self._rewards: list[float] = []

    def _on_step(self) -> bool:
        self._rewards += [
            info["episode"]["r"] for info in self.locals.get("infos", ()) if "episode" in info
        ]
        if len(self._rewards) >= 500:
            self.points.append((self.num_timesteps, float(np.mean(self._rewards))))
            self._rewards = []
        return True


# ---- the rows --------------------------------------------------------------


def on_latents(word: str, exam: Exam, texts: int, seed: int) -> tuple[list[Episode], Row]:
    """Train a word; its texts are of z as its policy draws it, and of its best z."""
    agent = textgym.make_agent(
        word,
        ID,
        decoder=exam.vae,
        reward="crowd",
        seed=seed,
        env_kwargs={**exam.fields, "prior_coef": PRIOR_COEF},
        **({"ent_coef": PRIOR_COEF} if word in ("sac", "tqc", "crossq") else {}),
    )
    curve = Curve()
    agent.learn(texts, callback=curve, log_interval=None)
    torch.manual_seed(seed)
    drawn = exam.play(policy_latents(agent, deterministic=False))
    best = exam.figures(exam.play(policy_latents(agent)))
    seen = np.clip(exam.vae.encode_prompts(exam.prompts[:100]), -10, 10)
    chosen = np.round(agent.predict(seen, deterministic=True)[0], 3).tolist()
    told = {"best": best, "curve": curve.points, "z": chosen}
    return drawn, {**told, "texts": agent.num_timesteps}


def on_tokens(exam: Exam, texts: int, seed: int) -> tuple[list[Episode], Row]:
    """PPO on tokens from the start model, until it has written as many texts."""
    count = {"texts": 0}

    class Stop(BaseCallback):
        def _on_step(self) -> bool:
            count["texts"] += sum("episode" in info for info in self.locals["infos"])
            return count["texts"] < texts

    agent = textgym.make_agent(
        "ppo",
        ID,
        policy="start",
        reward="crowd",
        seed=seed,
        env_kwargs={"max_new_tokens": NEW_TOKENS},
        **TOKEN_SETTINGS,
    )
    agent.learn(texts * NEW_TOKENS, callback=Stop())
    return token_episodes(agent, exam, seed), {"texts": count["texts"]}


def token_episodes(policy: Any, exam: Exam, seed: int) -> list[Episode]:
    """The texts of a language model on the prompts."""
    report = textgym.evaluate(
        ID,
        policy=policy,
        reward="crowd",
        prompts=exam.prompts,
        seed=seed,
        temperature=TOKEN_SETTINGS["temperature"],
        env_kwargs={"max_new_tokens": NEW_TOKENS},
    )
    return report.episodes


def makers(exam: Exam, texts: int) -> dict[str, Callable[[int], tuple[list[Episode], Row]]]:
    """What makes a row, by its name, from a seed."""
    size, n = exam.vae.latent_size, max(1, texts // len(exam.prompts))

    def constant(seed: int) -> tuple[list[Episode], Row]:
        z = best_constant(exam, texts, seed)
        return exam.play(constant_latents(z)), {"texts": texts, "z": z.tolist()}

    def word(name: str) -> Callable[[int], tuple[list[Episode], Row]]:
        return lambda seed: on_latents(name, exam, texts, seed)

    return {
        PRIOR: lambda seed: (exam.play(prior_latents(size, seed)), {"texts": 0}),
        CONSTANT: constant,
        BEST: lambda seed: (best_of(exam, n, seed), {"texts": n * len(exam.prompts)}),
        **{f"{name} on z": word(name) for name in WORDS},
        UNTRAINED: lambda seed: (token_episodes("start", exam, seed), {"texts": 0}),
        TOKENS: lambda seed: on_tokens(exam, texts, seed),
    }


def made(file: Path) -> list[Row]:
    """The rows that there are."""
    if not file.is_file():
        return []
    return [json.loads(text) for text in file.read_text(encoding="utf-8").splitlines()]


def guards(row: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, bool]:
    """The bars of docs/demo.md, against what was there without training."""
    after, was = row["figures"], before["figures"]
    low, low_half = was["judges"]["critic"]
    high, high_half = after["judges"]["critic"]
    read, half = was["bits_per_character"]
    return {
        "judge up by 0.4": high - low >= 0.4,
        "intervals apart": low + low_half < high - high_half,
        "perplexity 0.8 to 1.5×": 0.8 <= after["perplexity"] / was["perplexity"] <= 1.5,
        "distinct-2 ≥ 0.8×": after["distinct_2"] >= 0.8 * was["distinct_2"],
        "length 0.75 to 1.25×": 0.75 <= after["length"][0] / was["length"][0] <= 1.25,
        "commonest bigram ≤ 0.35": after["bigram_share"] <= 0.35,
        "made-up words not up": after["made_up"] <= was["made_up"],
        "bits per character not up": after["bits_per_character"][0] <= read + half,
    }


# ---- the page --------------------------------------------------------------


def spread(values: Sequence[float]) -> str:
    """Mean and, over several seeds, the half-width of its 95% interval by Student's t."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return f"{mean:.2f}"
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(len(values), 2.0)
    return f"{mean:.2f} ± {t * statistics.stdev(values) / len(values) ** 0.5:.2f}"


def line(name: str, rows: Sequence[Row], before: Mapping[int, Row]) -> str:
    """A row of the table: means over seeds."""
    figures = [row["figures"] for row in rows]
    own = [f["judges"]["critic"] for f in figures]
    seeds = f"{len(rows)}"
    cells = [
        name,
        seeds,
        f"{statistics.mean(row['texts'] for row in rows):,.0f}",
        spread([f["reward"][0] for f in figures]),
        spread([score for score, _ in own]),
        f"{statistics.mean(half for _, half in own):.2f}",
        f"{statistics.mean(f['distinct_2'] for f in figures):.3f}",
        f"{statistics.mean(f['perplexity'] for f in figures):.1f}",
        f"{statistics.mean(row['seconds'] for row in rows):.0f}",
    ]
    if name not in (PRIOR, UNTRAINED):
        missed: dict[str, int] = {}
        for row in rows:
            for guard, holds in guards(row, before[row["seed"]]).items():
                missed[guard] = missed.get(guard, 0) + (not holds)
        cells.append(", ".join(f"{k} ({n})" for k, n in missed.items() if n) or "all held")
    else:
        cells.append("")
    return f"| {' | '.join(cells)} |"


def page(rows: Sequence[Row], told: Mapping[str, Any], provenance: Sequence[str]) -> str:
    """The rows as Markdown."""
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    prior = {row["seed"]: row for row in by_name[PRIOR]}
    tokens = {row["seed"]: row for row in by_name.get(UNTRAINED, [])}
    head = ["row", "seeds", "texts decoded", "reward", "judge, SD", "± of a seed", "distinct-2"]
    head += ["perplexity", "seconds", "bars missed (seeds)"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    order = (PRIOR, CONSTANT, BEST, *(f"{word} on z" for word in WORDS), UNTRAINED, TOKENS)
    for name in order:
        if name in by_name:
            before = tokens if name == TOKENS else prior
            known = [row for row in by_name[name] if row["seed"] in before]
            lines.append(line(name, known, before))
    missing = [name for name in order if name not in by_name]
    return "\n".join(
        [
            "# Latent actions on the movie reviews",
            "",
            f"Reward `crowd`, judge `critic` (0 and 1: mean and standard deviation of human "
            f"reviews), {rows[0]['prompts']} held-out prompts. Means over seeds; ± is the 95% "
            "interval over seeds, *± of a seed* that over the prompts. Perplexity is under the "
            f"start model, of the text encoded again. Tokens are {rows[0]['decoding']}, "
            f"prior_coef is {PRIOR_COEF}. The decoder: "
            f"{told['pairs']:,} pairs, from the start model on, {told['steps']:,} steps, "
            f"{told['seconds']:.0f} s of processor time; z tells {told['mutual_information']:.1f} "
            "nats of a text.",
            "",
            *lines,
            "",
            *([f"Not made yet: {', '.join(missing)}.", ""] if missing else []),
            *provenance,
            "",
        ]
    )


def main() -> None:
    """Make what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=Path, default=Path("runs/latent_study"))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--texts", type=int, default=8000)
    parser.add_argument("--rows", nargs="+", help="only these")
    parser.add_argument("--validation", action="store_true", help="to choose settings on")
    parser.add_argument("--steps", type=int, default=1000, help="of the decoder")
    parser.add_argument("--decoding", default="sampled", choices=("greedy", "sampled"))
    parser.add_argument("--page", action="store_true", help="of the rows that there are")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    provenance = where(1)
    options.runs.mkdir(parents=True, exist_ok=True)
    file = options.runs / ("validation.jsonl" if options.validation else "rows.jsonl")
    if not options.page:
        vae = decoder(options.runs / "vae", options.steps)
        prompts = validation_prompts(200) if options.validation else test_prompts(500)
        exam = Exam(vae, prompts, options.decoding)
        crowd()
        for seed in range(options.seeds):
            for name, make in makers(exam, options.texts).items():
                if options.rows and name not in options.rows:
                    continue
                if any((row["name"], row["seed"]) == (name, seed) for row in made(file)):
                    continue
                start = time.process_time()
                episodes, more = make(seed)
                seconds = time.process_time() - start
                shown = [f"{e.prompt}|{e.completion}" for e in episodes[:12]]
                row = {"name": name, "seed": seed, "seconds": seconds, "prompts": len(prompts)}
                row["decoding"] = options.decoding
                row |= {"figures": exam.figures(episodes), "shown": shown, **more}
                with open(file, "a", encoding="utf-8") as out:
                    out.write(json.dumps(row) + "\n")
                judge = row["figures"]["judges"]["critic"]
                print(f"{name}, seed {seed}: judge {judge[0]:.2f} ± {judge[1]:.2f}", flush=True)
    told = json.loads((options.runs / "vae" / "told.json").read_text(encoding="utf-8"))
    text = page(made(file), told, provenance)
    print(text)
    if not options.validation:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
