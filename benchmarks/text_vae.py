"""Text autoencoders on held-out texts: perplexity beside the same decoder without z, units, nats.

    python benchmarks/text_vae.py [--texts reviews|quatrains|FILE] [--steps 800] [--out RESULTS.md]

Three trainings a seed with equal steps: the autoencoder as `textgym pretrain-vae` makes it, the
same decoder without z, whose rate is tuned by itself (the best of --rates with seed 0), and the
plain bound that collapses (no annealing, no free bits, no spread). Rates and the best step are
chosen on a tuning split, and all figures are of a third one. The perplexity of autoencoders is the
importance-weighted upper bound with k = 100 (Burda et al. 2016), that of the decoder alone exact.
The bundled reviews are split by film, the bundled five-character quatrains by poet, a file of texts
(one a line, or the column `text`) by near-copies.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import where  # the module beside this one
from torch import Tensor
from torch.nn.functional import cross_entropy

from textgym.envs.tasks.movie_reviews import TRAINING_SPLITS, review_texts
from textgym.envs.tasks.quatrains import quatrain_texts
from textgym.envs.texts.corpus import read_texts, split_heldout
from textgym.policies import TextVAE
from textgym.policies.pretraining.documents import Batch, Document
from textgym.policies.pretraining.loop import train_language_model
from textgym.policies.pretraining.objective import heldout_batches
from textgym.policies.vae.documents import LatentBatch, autoencoding_documents, collate_latent
from textgym.policies.vae.figures import bound_parts, importance_weighted_perplexity, log_likelihood
from textgym.policies.vae.objective import PLAIN, AgainstCollapse, EvidenceLowerBound
from textgym.tokenizer import Tokenizer

CONTEXT = 96
BARS = {"ratio": 1.01, "active": 0.8, "nats": 2.0, "minutes": 10.0}
HEAD = (
    "training",
    "seed",
    "perplexity",
    "bound",
    "reconstruction",
    "KL",
    "active units",
    "mutual information",
    "best step",
    "minutes",
)


class WithoutLatents(EvidenceLowerBound):
    """The decoder alone: z is zero and costs nothing."""

    def loss(self, batch: Batch, progress: float, generator: torch.Generator) -> Tensor:
        """Cross-entropy, summed."""
        assert isinstance(batch, LatentBatch)
        z = torch.zeros(len(batch.lengths), self.vae.latent_size, device=self.vae.device)
        tokens = self._without_words(batch, generator)
        hidden = self.vae.writer.packed(tokens, batch.lengths, z, batch.source)
        return cross_entropy(self.vae.lm_head(hidden).float(), batch.targets, reduction="sum")

    @torch.no_grad()
    def heldout(self, documents: Sequence[Document], progress: float) -> dict[str, float]:
        """The exact loss per token."""
        self.vae.eval()
        total, count = 0.0, 0
        for batch in heldout_batches(documents, 64, collate_latent):
            assert isinstance(batch, LatentBatch)
            zeros = torch.zeros(len(batch.lengths), self.vae.latent_size)
            total -= float(log_likelihood(self.vae, batch, zeros).sum())
            count += len(batch.source)
        self.vae.train()
        return {"heldout_loss": total / count}


@dataclass(frozen=True)
class Texts:
    """Documents to learn from, to choose on, and to report on."""

    tokenizer: Tokenizer
    training: list[Document]
    tuning: list[Document]
    reported: list[Document]


@dataclass(frozen=True)
class Row:
    """One training and what it came to, on the reported texts."""

    what: str
    seed: int
    perplexity: float
    figures: dict[str, float]
    best_step: int
    minutes: float

    def cells(self) -> str:
        """A row of the table."""
        names = ("bound", "reconstruction", "kl", "active_units", "mutual_information")
        found = (self.figures.get(name, math.nan) for name in names)
        written = [f"{x:.2f}" if math.isfinite(x) else "" for x in (self.perplexity, *found)]
        cells = [self.what, str(self.seed), *written, str(self.best_step), f"{self.minutes:.1f}"]
        return f"| {' | '.join(cells)} |"


def texts_of(name: str) -> tuple[list[str], list[str], list[str]]:
    """Texts to learn from, to choose on, and to report on."""
    if name == "reviews":
        training = [text for split in TRAINING_SPLITS for text in review_texts(split)]
        return training, review_texts("validation"), review_texts("test")
    if name == "quatrains":
        training = quatrain_texts("wujue", "train") + quatrain_texts("wujue", "judge")
        return training, quatrain_texts("wujue", "validation"), quatrain_texts("wujue", "test")
    training, held = map(list, split_heldout(list(read_texts(name)), 0.1, 0))
    return training, held[::2], held[1::2]


def tokenized(name: str, vocab_size: int) -> Texts:
    """The documents of texts: characters of quatrains, BPE of anything else."""
    training, tuning, reported = texts_of(name)
    if name == "quatrains":
        tokenizer = Tokenizer.character(training)
    else:
        tokenizer = Tokenizer.train_bpe(training, vocab_size=vocab_size)

    def documents(texts: list[str]) -> list[Document]:
        fitting = [text for text in texts if len(tokenizer.encode(text)) + 2 <= CONTEXT]
        return list(autoencoding_documents(fitting, tokenizer, context=CONTEXT))

    return Texts(tokenizer, documents(training), documents(tuning), documents(reported))


def trained(
    texts: Texts,
    options: argparse.Namespace,
    seed: int,
    rate: float,
    objective: type[EvidenceLowerBound],
    measures: AgainstCollapse,
    mean_scale: float,
) -> tuple[EvidenceLowerBound, int, float, float]:
    """One training: its objective, best step, loss per token on the tuning texts, and minutes."""
    vae = TextVAE.new(
        texts.tokenizer,
        seed=seed,
        architecture=options.architecture,
        hidden_size=options.hidden_size,
        latent_size=options.latent_size,
        mean_scale=mean_scale,
        max_position_embeddings=CONTEXT,
    )
    made, start = objective(vae, measures), time.monotonic()
    report = train_language_model(
        made,
        texts.training,
        heldout=texts.tuning[: options.measured],
        steps=options.steps,
        batch_size=options.batch_size,
        optimizer="adamw",
        learning_rate=rate,
        dropout=options.dropout,
        evaluate_every=max(1, options.steps // 10),
        seed=seed,
        progress_bar=False,
    )
    best = min(loss for _, loss in report.heldout)
    return made, report.best_step, best, (time.monotonic() - start) / 60


def best_rate(texts: Texts, options: argparse.Namespace) -> float:
    """The rate at which the decoder without z comes furthest on the tuning texts, with seed 0."""
    if len(options.rates) == 1:
        return float(options.rates[0])
    losses = {}
    for rate in options.rates:
        found = trained(texts, options, 0, rate, WithoutLatents, PLAIN, 0.0)
        losses[rate] = found[2]
        print(f"without z, rate {rate:g}: {math.exp(found[2]):.2f} on the tuning texts", flush=True)
    return min(losses, key=losses.__getitem__)


def without_latents(texts: Texts, options: argparse.Namespace, seed: int, rate: float) -> Row:
    """The decoder alone, with its exact perplexity."""
    made, step, _, minutes = trained(texts, options, seed, rate, WithoutLatents, PLAIN, 0.0)
    loss = made.heldout(texts.reported[: options.measured], 1.0)["heldout_loss"]
    return Row(f"decoder without z, rate {rate:g}", seed, math.exp(loss), {}, step, minutes)


def autoencoder(texts: Texts, options: argparse.Namespace, seed: int, is_plain: bool) -> Row:
    """The autoencoder as it is made by default, or by the plain bound."""
    measures = PLAIN if is_plain else AgainstCollapse()
    scale = 0.0 if is_plain else options.mean_scale
    made, step, _, minutes = trained(
        texts, options, seed, options.rate, EvidenceLowerBound, measures, scale
    )
    some = texts.reported[: options.measured]
    perplexity = importance_weighted_perplexity(made.vae, some, torch.Generator().manual_seed(2))
    parts = bound_parts(made.vae, texts.reported, torch.Generator().manual_seed(0))
    figures = parts.figures(torch.Generator().manual_seed(1))
    return Row(
        "plain bound" if is_plain else "autoencoder", seed, perplexity, figures, step, minutes
    )


def main() -> None:
    """Train, measure, print, and write the table where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts", default="reviews", help="reviews, quatrains, or a file")
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--architecture", default="lstm")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--latent-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-3, 4e-3, 8e-3])
    parser.add_argument("--rate", type=float, default=4e-3, help="of the autoencoders")
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--mean-scale", type=float, default=0.6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measured", type=int, default=200, help="texts of the perplexity")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    texts = tokenized(options.texts, options.vocab_size)
    head = [
        *where(torch.get_num_threads()),
        f"- {options.texts}: {len(texts.training):,} texts to learn from, {len(texts.tuning):,} to "
        f"choose on, {len(texts.reported):,} to report on, the first {options.measured} of them "
        "for the perplexity",
        f"- {options.architecture} of width {options.hidden_size}, {options.steps} steps of "
        f"{options.batch_size} texts, dropout {options.dropout:g}",
        "",
        f"| {' | '.join(HEAD)} |",
        "|" + "---|" * len(HEAD),
    ]
    print("\n".join(head), flush=True)
    rows: list[Row] = []
    rate = best_rate(texts, options)
    for seed in range(options.seeds):
        rows.append(without_latents(texts, options, seed, rate))
        print(rows[-1].cells(), flush=True)
        for is_plain in (False, True):
            rows.append(autoencoder(texts, options, seed, is_plain))
            print(rows[-1].cells(), flush=True)
    lines = ["", *(verdict(rows[i : i + 2], options) for i in range(0, len(rows), 3))]
    print("\n".join(lines))
    if options.out is not None:
        text = "\n".join(["# Text autoencoders", "", *head, *(row.cells() for row in rows), *lines])
        options.out.write_text(text + "\n", encoding="utf-8")


def verdict(pair: Sequence[Row], options: argparse.Namespace) -> str:
    """Whether a seed holds the bars, as a line of Markdown."""
    without, vae = pair
    ratio = vae.perplexity / without.perplexity
    active, nats = vae.figures["active_units"], vae.figures["mutual_information"]
    missed = [
        name
        for name, is_held in (
            ("ratio", ratio <= BARS["ratio"]),
            ("units", active >= BARS["active"] * options.latent_size),
            ("nats", nats > BARS["nats"]),
            ("minutes", vae.minutes < BARS["minutes"]),
        )
        if not is_held
    ]
    return (
        f"- seed {vae.seed}: perplexity ratio {ratio:.3f} (at most {BARS['ratio']}), {active:.0f} "
        f"of {options.latent_size} units, {nats:.2f} nats (over {BARS['nats']:g}), "
        f"{vae.minutes:.1f} minutes: {'missed: ' + ', '.join(missed) if missed else 'held'}"
    )


if __name__ == "__main__":
    main()
