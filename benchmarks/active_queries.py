"""How many answers a reward model of people's taste needs, asked actively or at random.

    python benchmarks/active_queries.py --out benchmarks/results/active_queries

Human pairs: the questions are the 55,425 pairs of reviews (split reward_model) that the same people
rated; a question is answered by one real rater, drawn anew for each seed. Both ways begin with the
same 100 random answers and double them; the active one picks those of four times as many random
questions about which three members disagree most. Accuracy is on pairs of the splits validation and
test (other movies), answered by real raters too. "Gain" is accuracy above .5; the full gain is that
of all answers of the seed.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from textgym.envs.tasks.movie_reviews import load_movie_reviews
from textgym.reward_models.learned.pairs import Pairs, pair_accuracy, rater_pairs
from textgym.reward_models.people.heads import NgramFeatures, WithHints, fit_heads
from textgym.reward_models.people.queries import disagreement
from textgym.reward_models.rules.lexicon import Lexicon

COUNTS = [100 * 2**k for k in range(8)]
MEMBERS, TIMES = 3, 4
RULES = ("disagreement", "random")
SHARES = (0.8, 0.9)


def fit(features, pairs, places, *, members, seed):
    """Heads fitted to some of the pairs, on the texts that they have."""
    used, compact = np.unique(
        np.stack([pairs.first[places], pairs.second[places]]), return_inverse=True
    )
    first, second = compact.reshape(2, -1)
    rows = features[used]
    return fit_heads(rows, Pairs(first, second, pairs.label[places]), members=members, seed=seed)


def curve(rule, features, pairs, test_features, test, seed):
    """Accuracy on the test pairs after each of `COUNTS` answers."""
    rng = np.random.default_rng([seed, 1])
    order = rng.permutation(len(pairs))  # both rules begin alike
    asked, left = order[: COUNTS[0]], order[COUNTS[0] :]
    accuracies = []
    for count in COUNTS:
        if count > len(asked):
            wanted = count - len(asked)
            if rule == "disagreement":
                few = left[: TIMES * wanted]
                heads = fit(features, pairs, asked, members=MEMBERS, seed=seed)
                scores = features @ heads.weights.T  # [texts, members]
                margin = scores[pairs.first[few]] - scores[pairs.second[few]]
                spread = disagreement(1 / (1 + np.exp(-margin.T)))
                picked = few[np.argsort(-spread, kind="stable")[:wanted]]
            else:
                picked = left[:wanted]
            asked = np.concatenate([asked, picked])
            left = left[~np.isin(left, picked)]
            left = left[rng.permutation(len(left))]
        heads = fit(features, pairs, asked, members=1, seed=seed)
        accuracies.append(pair_accuracy(heads.scores(test_features)[0], test))
    return accuracies


def needed(accuracies, full, share):
    """Answers after which a curve first has this share of the full gain; None if never.

    Between two counts it is drawn straight over the logarithm of the count.
    """
    goal = 0.5 + share * (full - 0.5)
    for place, accuracy in enumerate(accuracies):
        if accuracy >= goal:
            if place == 0:
                return COUNTS[0]
            before = accuracies[place - 1]
            part = (goal - before) / (accuracy - before)
            return float(COUNTS[place - 1] * 2**part)
    return None


def measure(name, features_of, seeds):
    pool = load_movie_reviews("reward_model")
    held_out = load_movie_reviews("validation") + load_movie_reviews("test")
    features = features_of([review.text for review in pool])
    test_features = features_of([review.text for review in held_out])
    test = rater_pairs(held_out, np.random.default_rng(99), draws=4)
    found = []
    for seed in range(seeds):
        began = time.time()
        pairs = rater_pairs(pool, np.random.default_rng([seed, 0]))
        everything = fit(features, pairs, np.arange(len(pairs)), members=1, seed=seed)
        full = pair_accuracy(everything.scores(test_features)[0], test)
        row = {"features": name, "seed": seed, "full": full, "answers": len(pairs)}
        for rule in RULES:
            accuracies = curve(rule, features, pairs, test_features, test, seed)
            row[rule] = accuracies
            row |= {f"{rule} {share}": needed(accuracies, full, share) for share in SHARES}
        found.append(row)
        print(json.dumps(row), f"{time.time() - began:.0f} s", flush=True)
    return found


def draw(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(row["features"] for row in rows))
    figure, axes = plt.subplots(1, len(names), figsize=(5 * len(names), 3.6), squeeze=False)
    for axis, name in zip(axes[0], names, strict=True):
        own = [row for row in rows if row["features"] == name]
        for rule, color in zip(RULES, ("tab:blue", "tab:orange"), strict=True):
            table = np.array([row[rule] for row in own])
            axis.plot(COUNTS, table.T, color=color, alpha=0.25, linewidth=0.8)
            axis.plot(COUNTS, table.mean(axis=0), color=color, label=rule)
        full = np.mean([row["full"] for row in own])
        axis.axhline(full, color="black", linewidth=0.8, label="all 55,425 answers")
        for share in SHARES:
            axis.axhline(0.5 + share * (full - 0.5), color="grey", linewidth=0.6, linestyle=":")
        axis.set(xscale="log", title=name, xlabel="answers", ylabel="accuracy on held-out pairs")
        axis.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def table(rows):
    """The table of the page, in Markdown."""
    lines = [
        "| features | all answers | share of the gain | disagreement | random | ratio by seed |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["features"] for row in rows):
        own = [row for row in rows if row["features"] == name]
        for share in SHARES:
            cells = [[row[f"{rule} {share}"] for row in own] for rule in RULES]
            ratios = [a / b for a, b in zip(*cells, strict=True) if a and b]
            full = np.mean([row["full"] for row in own])
            shown = [_shown(values) for values in cells]
            by_seed = ", ".join(f"{ratio:.2f}" for ratio in ratios) or "none"
            lines.append(
                f"| {name} | {full:.3f} | {share:.0%} | {shown[0]} | {shown[1]} | {by_seed} |"
            )
    return "\n".join(lines)


def _shown(values):
    reached = sorted(value for value in values if value is not None)
    if not reached:
        return f"over {COUNTS[-1]:,}"
    note = "" if len(reached) == len(values) else f", {len(reached)} of {len(values)} seeds"
    return f"{np.median(reached):,.0f} ({reached[0]:,.0f} to {reached[-1]:,.0f}{note})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lexicon = Lexicon()
    ngrams = NgramFeatures(1024)
    beside = WithHints(ngrams, {"lexicon": lambda texts: lexicon([""] * len(texts), texts)})
    rows = []
    for name, features in (("n-grams and word list", beside), ("n-grams", ngrams)):
        rows += measure(name, features, arguments.seeds)
        (arguments.out / "curves.json").write_text(json.dumps({"counts": COUNTS, "rows": rows}))
        draw(rows, arguments.out / "curves.png")
        (arguments.out / "table.md").write_text(table(rows) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
