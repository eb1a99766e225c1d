"""The loop with people on a policy's own texts, the people being a judge: synthetic.

    python benchmarks/synthetic_loop.py --out benchmarks/results/synthetic_loop

PPO trains the start model on movie reviews with `--reward human,store=…` and no prior. Before each
rollout a simulated rater answers: what the judge `other_raters` (people who rated products and
tweets) says of the two texts, with Boltzmann noise. Once pairs are asked by disagreement, once at
random; everything else is the same. What comes of it says another judge, `critic`, on held-out
prompts, who answers nothing: its mean score at the end of the training minus that at its start, in
standard deviations of human reviews, over the number of answers so far.
"""

import argparse
import json
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from machine import where
from stable_baselines3.common.callbacks import BaseCallback

from textgym.agents.evaluation.bundled_rewards import other_domain_raters
from textgym.agents.runs.held_out import read_held_out
from textgym.envs.tasks.movie_reviews import training_prompts, validation_prompts
from textgym.reward_models.people.simulated import JudgeRater, answer_open
from textgym.reward_models.people.store import LabelStore
from textgym.training import train

ENVIRONMENT = "textgym/MovieReview-v0"
RULES = ("disagreement", "random")
JUDGE = "critic"
TOKENS = 40  # of a text


@dataclass(frozen=True)
class Size:
    """How much of everything.

    :param answers: before each rollout.
    :param rows: texts that are written side by side.
    :param prompts: held-out ones.
    """

    seeds: int = 5
    rollouts: int = 44
    answers: int = 10
    rows: int = 32
    prompts: int = 250
    evaluations: int = 5
    hint: str = "none"
    temperature: float = 0.5
    learning_rate: float = 1.5e-4


class Rater(BaseCallback):
    """Answers what waits, a few pairs before each rollout."""

    def __init__(self, store, size, seed, judge):
        super().__init__()
        self.store, self.size, self.seed = store, size, seed
        self.rater = JudgeRater(judge, temperature=size.temperature)

    def _on_rollout_start(self):
        with LabelStore(self.store) as opened:
            answer_open(opened, self.rater, most=self.size.answers, seed=self.seed)

    def _on_step(self):
        return True


def run(rule, seed, size, folder, *, policy="start", judge=None):
    """One training; {"labels": [...], "gain": [...], "agreement": last one, ...}."""
    store, out = folder / f"{rule}-{seed}.db", folder / f"{rule}-{seed}"
    LabelStore(store, repeats=0.0, gold=0.0, seed=seed + 1).close()
    rng = np.random.default_rng([seed, 3])
    own = training_prompts()
    prompts = [own[place] for place in rng.choice(len(own), 2 * size.rows, replace=False)]
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* only collects")
        train(
            ENVIRONMENT,
            policy=policy,
            reward=f"human,store={store},hint={size.hint},queries={rule},run=loop,seed={seed}",
            timesteps=size.rollouts * size.rows * TOKENS,
            out=out,
            n_envs=size.rows,
            seed=seed,
            env_kwargs={"max_new_tokens": TOKENS, "prompts": prompts},
            evaluations=size.evaluations,
            prompts=validation_prompts(size.prompts),
            gold=[JUDGE],
            temperature=0.8,
            kl_coef=0.27,
            learning_rate=size.learning_rate,
            n_steps=TOKENS,
            batch_size=size.rows * TOKENS // 2,
            value_warmup_rollouts=3,
            progress_bar=False,
            callback=Rater(store, size, seed, judge or other_domain_raters()),
            report=lambda line: None,
        )
    with LabelStore(store, is_read_only=True) as opened:
        refits = opened.refits("loop")
        asked = {item.id: item.query for item in opened.items()}
        answered = [asked[event.item] for event in opened.events() if event.undoes is None]
    record = read_held_out(out)
    found = curve(record, [(refit.step, len(refit.answers)) for refit in refits])
    agreements = [refit.details["agreement"] for refit in refits if "agreement" in refit.details]
    return {
        "rule": rule,
        "seed": seed,
        **found,
        "by disagreement": answered.count("disagreement"),
        "agreement": float(np.mean(agreements)) if agreements else None,
        "processor seconds": round(time.process_time() - began),
    }


def curve(record, refits):
    """Answers that the model was fitted to, and the judge's gain, at each evaluation.

    :param refits: (step, answers) in order.
    """
    scores = [
        float(np.mean([text.scores[JUDGE] for text in record.texts[step]])) for step in record.steps
    ]
    labels = [max([n for at, n in refits if at <= step], default=0) for step in record.steps]
    kl = [float(np.mean([text.kl for text in record.texts[step]])) for step in record.steps]
    return {"labels": labels, "gain": [score - scores[0] for score in scores], "kl": kl}


def table(rows):
    """Gain at each evaluation, by rule: mean over seeds and the seeds' range."""
    points = len(rows[0]["gain"])
    lines = [
        "| pairs asked | seeds | " + " | ".join(f"evaluation {k}" for k in range(points)) + " |",
        "|---|---|" + "---|" * points,
    ]
    for rule in RULES:
        own = [row for row in rows if row["rule"] == rule]
        gains = np.array([row["gain"] for row in own])
        labels = np.array([row["labels"] for row in own]).mean(axis=0)
        cells = [
            f"{labels[k]:.0f} answers: {gains[:, k].mean():+.2f} "
            f"({gains[:, k].min():+.2f} to {gains[:, k].max():+.2f})"
            for k in range(points)
        ]
        lines.append(f"| {rule} | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def difference(rows):
    """The last gain by disagreement minus that at random, seed by seed."""
    last = {(row["rule"], row["seed"]): row["gain"][-1] for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    return [last["disagreement", seed] - last["random", seed] for seed in seeds]


def draw(rows, path):
    """Gain over answers: a thin line a run, a thick one for the mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6, 3.8))
    for rule, color in zip(RULES, ("tab:blue", "tab:orange"), strict=True):
        own = [row for row in rows if row["rule"] == rule]
        labels, gains = (np.array([row[key] for row in own]) for key in ("labels", "gain"))
        axis.plot(labels.T, gains.T, color=color, alpha=0.3, linewidth=0.8)
        axis.plot(labels.mean(axis=0), gains.mean(axis=0), color=color, label=rule)
    axis.axhline(0, color="grey", linewidth=0.6)
    axis.set(xlabel="answers (synthetic)", ylabel=f"gain by {JUDGE}, SD of human reviews")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _mean_agreement(rows, rule):
    known = [row["agreement"] for row in rows if row["rule"] == rule and row["agreement"]]
    return f"{np.mean(known):.2f}" if known else "unknown"


def page(rows, size, about):
    """The page, in Markdown."""
    per_run = np.mean([row["processor seconds"] for row in rows])
    kl = np.mean([row["kl"][-1] for row in rows])
    settings = ", ".join(f"{name} {value}" for name, value in asdict(size).items())
    by_seed = ", ".join(f"{value:+.2f}" for value in difference(rows))
    agreed = {rule: _mean_agreement(rows, rule) for rule in RULES}
    return "\n".join(
        [
            "# The loop on a policy's own texts, with a judge as the rater (synthetic)",
            "",
            *about,
            f"- {settings}; {per_run:.0f} processor seconds a run",
            "",
            "No person answered here: `JudgeRater(other_raters)` with Boltzmann noise did. Gain by "
            "the judge `critic`, which answers nothing: its mean score on held-out prompts minus "
            "that of the start, in standard deviations of human reviews; mean over seeds (lowest "
            "to highest).",
            "",
            table(rows),
            "",
            f"By disagreement minus at random at the end, seed by seed: {by_seed}. At the end the "
            f"policies are {kl:.1f} nats from the start. Agreement with answers before they were "
            f"fitted, mean over refits: {agreed['disagreement']} by disagreement (pairs picked "
            f"for being hard), {agreed['random']} at random.",
            "",
            "![gain over the number of answers](synthetic_loop.png)",
            "",
        ]
    )


def main():
    """Measure, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="without ending: .md and .png")
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = vars(parser.parse_args())
    out, size = options.pop("out"), Size(**options)
    about, rows = where(1), []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(size.seeds):
            for rule in RULES:
                rows.append(run(rule, seed, size, Path(folder)))
                print(json.dumps(rows[-1]), flush=True)
            draw(rows, out.with_suffix(".png"))  # after each seed: a long run may be ended early
            text = page(rows, replace(size, seeds=seed + 1), about)
            out.with_suffix(".md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
