"""Does augmentation help a reward model that has 500 labels? Held-out correlation, five seeds.

    python benchmarks/augmentation_study.py

500 rated reviews of the bundled training split are drawn, each gets two changed copies with the
rating of its source, and two reward models are fitted to the mean ratings: weights of hashed
n-grams (`NgramRidge`), and a linear head on the frozen start model (mean hidden states). The
penalty of each fit is chosen on the validation reviews; Pearson's r is of the test reviews. Beside
them, what twice as many real labels bring.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from machine import where
from scipy import stats

from textgym.envs.tasks.movie_reviews import load_movie_reviews
from textgym.envs.texts.preparation import Augment, TextPipeline
from textgym.policies import CausalLM
from textgym.reward_models.learned.ngrams import NgramRidge
from textgym.reward_models.learned.trunk_reward import TrunkRewardModel

Floats = npt.NDArray[np.float64]
Score = Callable[[Sequence[str]], Floats]
RATE, COPIES = 0.1, 2
NONE = dict.fromkeys(("synonym", "insertion", "swap", "deletion"), 0.0)
OPERATIONS = {
    "none": None,
    **{name: NONE | {name: RATE} for name in NONE},
    "all four": dict.fromkeys(NONE, RATE),
}
NGRAM_PENALTIES = (3e-2, 1e-2, 3e-3, 1e-3, 3e-4)
HEAD_PENALTIES = (3.0, 1.0, 0.3, 0.1, 0.03, 0.01)


def augmented(
    texts: Sequence[str], ratings: Floats, rates: dict[str, float] | None, seed: int
) -> tuple[list[str], Floats]:
    """Texts with their copies, and the ratings of both."""
    if rates is None:
        return list(texts), ratings
    rows = list(TextPipeline([Augment(COPIES, **rates, seed=seed)]).rows(texts))
    return [row.text for row in rows], ratings[[row.number - 1 for row in rows]]


def ngram_fits(texts: Sequence[str], ratings: Floats) -> list[Score]:
    """A model a penalty."""
    values = ratings.tolist()
    return [NgramRidge.fit(texts, values, l2=penalty).raw for penalty in NGRAM_PENALTIES]


def head_fits(trunk: TrunkRewardModel, texts: Sequence[str], ratings: Floats) -> list[Score]:
    """Ridge regression on the trunk's features in closed form, a model a penalty."""
    x = trunk.features(texts).astype(np.float64)
    mean, std = x.mean(0), x.std(0) + 1e-9
    x = (x - mean) / std
    covariance, target = x.T @ x / len(x), x.T @ (ratings - ratings.mean()) / len(x)

    def score(weight: Floats) -> Score:
        return lambda new: ((trunk.features(new) - mean) / std) @ weight

    eye = np.eye(x.shape[1])
    return [score(np.linalg.solve(covariance + p * eye, target)) for p in HEAD_PENALTIES]


def main() -> None:
    """Fit, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="n-grams+head", help="models, joined by +")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/augmentation.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    page = ["# Augmentation at few labels", "", *where(1), ""]
    splits = {
        name: [(r.text, float(np.mean(r.ratings))) for r in load_movie_reviews(name)]
        for name in ("reward_model", "validation", "test")
    }
    trunk = TrunkRewardModel(CausalLM.from_pretrained("start"))
    trunk.known = {}  # a text is read once
    found: dict[tuple[str, str], list[float]] = {}

    def best(fits: list[Score]) -> float:
        chosen = max(fits, key=lambda fit: correlation(fit, splits["validation"]))
        return correlation(chosen, splits["test"])

    def fit_all(name: str, texts: Sequence[str], ratings: Floats) -> None:
        for model, fits in (("n-grams", ngram_fits), ("head", partial(head_fits, trunk))):
            if model in arguments.only.split("+"):
                found.setdefault((model, name), []).append(best(fits(texts, ratings)))

    for seed in range(arguments.seeds):
        order = np.random.default_rng(seed).permutation(len(splits["reward_model"]))
        drawn = [splits["reward_model"][i] for i in order[: 2 * arguments.labels]]
        texts, ratings = [t for t, _ in drawn], np.array([r for _, r in drawn])
        few = arguments.labels
        for name, rates in OPERATIONS.items():
            rows = augmented(texts[:few], ratings[:few], rates, seed)
            fit_all(name, *rows)
        fit_all(f"none, {2 * few:,} labels", texts, ratings)
        print(seed, {key: round(values[-1], 3) for key, values in found.items()}, flush=True)
    page += ["| model | copies | r of the test reviews | difference to none, 95% interval |"]
    page += ["|---|---|---:|---:|"]
    for (model, name), values in found.items():
        difference = np.array(values) - np.array(found[model, "none"])
        shown = "" if name == "none" else interval(difference)
        page.append(f"| {model} | {name} | {np.mean(values):.3f} | {shown} |")
    page += [
        "",
        f"{arguments.labels} labels, {COPIES} copies each, {RATE:.0%} of the words touched, "
        f"{arguments.seeds} seeds (other labels each); Student's t over the seeds.",
        "",
    ]
    arguments.out.write_text("\n".join(page), encoding="utf-8")


def correlation(score: Score, rated: Sequence[tuple[str, float]]) -> float:
    """Pearson's r of scores and mean ratings."""
    return float(np.corrcoef(score([t for t, _ in rated]), [r for _, r in rated])[0, 1])


def interval(values: Floats) -> str:
    """Mean and 95% interval over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.3f} ({values.mean() - half:+.3f} to {values.mean() + half:+.3f})"


if __name__ == "__main__":
    main()
