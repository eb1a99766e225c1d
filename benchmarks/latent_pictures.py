"""The pictures of docs/vae.md and docs/latent-actions.md.

    python benchmarks/latent_pictures.py collapse [--runs runs/collapse] [--steps 400]
    python benchmarks/latent_pictures.py study [--runs runs/latent_study]

`collapse` trains an autoencoder on the bundled five-character quatrains twice, as it is by default
and by the plain bound, and draws KL and mutual information over the steps: `collapse.png`. `study`
draws what `latent_study.py` left: reward over the decoded texts of each word, `latent_rewards.png`,
and the reward on a plane through the prior, `latent_map.png`: its axes are the best constant z of
seed 0, and a direction at a right angle to it, drawn at random.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from demo_pictures import BLUE, ORANGE, figure_with
from latent_study import CONSTANT, ID, NEW_TOKENS, PRIOR, PRIOR_COEF, WORDS, made
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import textgym
from textgym.agents.evaluation.latent_play import constant_latents, play_latents
from textgym.envs.tasks.quatrains import quatrain_texts
from textgym.policies import TextVAE

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
PLAIN: dict[str, Any] = {"kl_schedule": "constant", "free_bits": 0.0, "decorrelation": 0.0}
REACH, POINTS, PROMPTS = 3.0, 7, 64  # of the map: from -3 to 3, so many points, so many texts each


def collapse(runs: Path, steps: int, folder: Path) -> None:
    """Train what is not there yet, and draw both trainings."""
    trainings = {"default": {}, "plain bound": {**PLAIN, "mean_scale": 0.0}}
    figure = Figure(figsize=(8.4, 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for (name, measures), colour in zip(trainings.items(), (BLUE, ORANGE), strict=True):
        run = runs / name.replace(" ", "_")
        if not run.is_dir():
            textgym.pretrain_vae(
                [{"text": text} for text in quatrain_texts("wujue", "train")],
                out=run,
                steps=steps,
                tokenizer="character",
                hidden_size=128,
                context=48,
                learning_rate=4e-3,
                evaluate_every=max(1, steps // 16),
                progress_bar=False,
                **measures,
            )
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if "kl_weight" in row]
        for axes, key in zip(panels, ("kl", "mutual_information"), strict=True):
            values = [row[key] for row in rows]
            axes.plot([r["step"] for r in rows], values, color=colour, linewidth=2, label=name)
    for axes, title in zip(panels, ("KL term", "mutual information"), strict=True):
        axes.set(title=title, xlabel="optimizer steps", ylabel="nats a text", ylim=(0, None))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#8a8a8a", alpha=0.2)
        axes.legend(frameon=False)
    figure.savefig(folder / "collapse.png")


def rewards(rows: list[dict[str, Any]], folder: Path) -> None:
    """Mean over the seeds of the texts' reward, and the seeds' range behind it.

    The price of z is paid, as it was in training; what the prior earns pays its mean.
    """
    figure, axes = figure_with("Which words find a better z?")
    latents = next(len(row["z"]) for row in rows if row["name"] == CONSTANT)
    prior = [row["figures"]["reward"][0] for row in rows if row["name"] == PRIOR]
    level = float(np.mean(prior)) - PRIOR_COEF * 0.5 * latents
    axes.axhline(level, color="#8a8a8a", linestyle="--", label=PRIOR)
    for word, colour in zip(WORDS, colormaps["tab10"].colors[: len(WORDS)], strict=True):
        curves = [row["curve"] for row in rows if row["name"] == f"{word} on z" and row["curve"]]
        if not curves:
            continue
        length = min(map(len, curves))
        steps = [step for step, _ in curves[0][:length]]
        values = np.array([[reward for _, reward in curve[:length]] for curve in curves])
        axes.fill_between(steps, values.min(0), values.max(0), color=colour, alpha=0.1, lw=0)
        axes.plot(steps, values.mean(0), color=colour, linewidth=2, label=word)
    axes.set(xlabel="texts decoded", ylabel="last 500 texts: crowd, less the price of z")
    axes.legend(frameon=False, ncols=3)
    figure.savefig(folder / "latent_rewards.png")


def reward_map(rows: list[dict[str, Any]], vae: TextVAE, decoding: str, folder: Path) -> None:
    """Mean reward at each point of a plane of z."""
    best = next(np.array(r["z"]) for r in rows if r["name"] == CONSTANT and r["seed"] == 0)
    across = best / np.linalg.norm(best)
    drawn = np.random.default_rng(0).standard_normal(len(best))
    up = drawn - (drawn @ across) * across
    up /= np.linalg.norm(up)
    env = textgym.make_vec(
        ID, PROMPTS, seed=0, decoder=vae, reward="crowd", max_new_tokens=NEW_TOKENS,
        decoding=decoding,
    )  # fmt: skip
    ticks = np.linspace(-REACH, REACH, POINTS)
    values = np.zeros((POINTS, POINTS))
    for i, y in enumerate(ticks):
        for j, x in enumerate(ticks):
            z = np.clip(x * across + y * up, -3, 3)
            texts = play_latents(constant_latents(z), env, PROMPTS)
            values[i, j] = np.mean([text.reward for text in texts])
    figure, axes = figure_with("Mean reward of the texts of a z")
    mesh = axes.pcolormesh(ticks, ticks, values, cmap="viridis", shading="nearest")
    figure.colorbar(mesh, label=f"crowd, {PROMPTS} texts a point")
    axes.set(xlabel="along the best constant z, seed 0", ylabel="at a right angle, drawn at random")
    axes.plot(0, 0, "+", color="white", markersize=12)
    axes.set_aspect("equal")
    figure.savefig(folder / "latent_map.png")


def main() -> None:
    """Draw what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("collapse", "study"))
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--steps", type=int, default=400, help="of each training of collapse")
    parser.add_argument("--folder", type=Path, default=PICTURES)
    options = parser.parse_args()
    if options.what == "collapse":
        collapse(options.runs or Path("runs/collapse"), options.steps, options.folder)
        return
    runs = options.runs or Path("runs/latent_study")
    rows = made(runs / "rows.jsonl")
    rewards(rows, options.folder)
    vae = TextVAE.from_pretrained(runs / "vae")
    reward_map(rows, vae, rows[0]["decoding"], options.folder)


if __name__ == "__main__":
    main()
