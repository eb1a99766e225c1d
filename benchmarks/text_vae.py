"""Text autoencoders on held-out texts: perplexity beside the same decoder without z, units, nats.

    python benchmarks/text_vae.py [--texts FILE] [--seeds 3] [--steps 2500] [--out RESULTS.md]

Three trainings a seed with equal steps: the autoencoder as `textgym pretrain-vae` makes it, the
same decoder without z (its rate tuned by itself: the better of --rates), and the plain bound that
collapses (no annealing, no free bits). The held-out perplexity of the first and the last is the
importance-weighted upper bound with k = 100 (Burda et al. 2016), of the second the exact one.
Without --texts: the bundled movie reviews, validation split held out. With it: a file of texts,
one a line or the column `text`, of which a twentieth is held out.
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

from textgym.envs.tasks.movie_reviews import load_movie_reviews
from textgym.envs.texts.corpus import read_texts, split_heldout
from textgym.policies import TextVAE
from textgym.policies.pretraining.documents import Batch, Document
from textgym.policies.pretraining.loop import train_language_model
from textgym.policies.pretraining.objective import heldout_batches
from textgym.policies.vae.documents import LatentBatch, autoencoding_documents, collate_latent
from textgym.policies.vae.figures import bound_parts, importance_weighted, log_likelihood
from textgym.policies.vae.objective import PLAIN, AgainstCollapse, EvidenceLowerBound
from textgym.tokenizer import Tokenizer

BARS = {"ratio": 1.01, "active": 0.8, "nats": 2.0, "minutes": 10.0}


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
class Row:
    """One training and what it came to."""

    what: str
    seed: int
    perplexity: float
    bound: float = math.nan
    kl: float = math.nan
    active: float = math.nan
    nats: float = math.nan
    minutes: float = math.nan

    def cells(self) -> str:
        """A row of the table."""
        numbers = (self.perplexity, self.bound, self.kl, self.nats, self.minutes)
        p, b, k, m, t = (f"{x:.2f}" if math.isfinite(x) else "" for x in numbers)
        units = f"{self.active:.0f}" if math.isfinite(self.active) else ""
        return f"| {self.what} | {self.seed} | {p} | {b} | {k} | {units} | {m} | {t} |"


def corpus(path: str | None) -> tuple[list[str], list[str]]:
    """Training and held-out texts."""
    if path is None:
        splits = ("reward_model", "judge")
        training = [r.text for r in load_movie_reviews() if r.split in splits]
        return training, [r.text for r in load_movie_reviews("validation")]
    training, held = split_heldout(list(read_texts(path)), 0.05, 0)
    return list(training), list(held)


def main() -> None:
    """Train, measure, print, and write the table where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--texts")
    parser.add_argument("--tokenizer", default="bpe", choices=("bpe", "character"))
    parser.add_argument("--vocab-size", type=int, default=2048)
    parser.add_argument("--architecture", default="lstm")
    parser.add_argument("--hidden-size", type=int, default=256)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--latent-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 2e-3, 4e-3])
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--mean-scale", type=float, default=0.6)
    parser.add_argument("--free-bits", type=float, default=0.0)
    parser.add_argument("--kl-warmup", type=float, default=0.3)
    parser.add_argument("--kl-schedule", default="linear")
    parser.add_argument("--word-dropout", type=float, default=0.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--measured", type=int, default=300, help="texts of the perplexity")
    parser.add_argument("--evaluate-every", type=int)
    parser.add_argument("--only", choices=("vae", "without", "plain"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()

    training, held = corpus(options.texts)
    if options.tokenizer == "bpe":
        tokenizer = Tokenizer.train_bpe(training, vocab_size=options.vocab_size)
    else:
        tokenizer = Tokenizer.character(training)
    context = 96
    fits = [t for t in training if len(tokenizer.encode(t)) + 2 <= context]
    documents = list(autoencoding_documents(fits, tokenizer, context=context))
    held = [t for t in held if len(tokenizer.encode(t)) + 2 <= context]
    heldout = list(autoencoding_documents(held, tokenizer, context=context))
    print(f"{len(documents):,} texts of {len(training):,} fit, {len(heldout):,} held out")
    provenance = where(torch.get_num_threads())
    print(*provenance, sep="\n")
    rows: list[Row] = []
    for seed in range(options.seeds):
        for row in one_seed(options, tokenizer, documents, heldout, seed):
            rows.append(row)
            print(row.cells(), flush=True)
    report(rows, options)


def one_seed(options, tokenizer, documents, heldout, seed):  # type: ignore[no-untyped-def]
    """The rows of a seed, as they come."""
    measured = heldout[: options.measured]
    measures = AgainstCollapse(
        kl_schedule=options.kl_schedule,
        kl_warmup=options.kl_warmup,
        free_bits=options.free_bits,
        word_dropout=options.word_dropout,
    )

    def trained(make, rate, mean_scale=0.0):  # type: ignore[no-untyped-def]
        vae = TextVAE.new(
            tokenizer,
            seed=seed,
            architecture=options.architecture,
            hidden_size=options.hidden_size,
            num_hidden_layers=options.layers,
            latent_size=options.latent_size,
            mean_scale=mean_scale,
            max_position_embeddings=96,
        )
        objective, start = make(vae), time.monotonic()
        train_language_model(
            objective,
            documents,
            heldout=heldout[:400],
            steps=options.steps,
            batch_size=options.batch_size,
            optimizer=options.optimizer,
            learning_rate=rate,
            dropout=options.dropout,
            evaluate_every=options.evaluate_every or max(1, options.steps // 10),
            seed=seed,
            progress_bar=False,
        )
        return vae, objective, (time.monotonic() - start) / 60

    if options.only in (None, "without"):
        found = []
        for rate in options.rates:
            _, objective, minutes = trained(WithoutLatents, rate)
            perplexity = math.exp(objective.heldout(measured, 1.0)["heldout_loss"])
            found.append(Row(f"without z, rate {rate:g}", seed, perplexity, minutes=minutes))
        yield min(found, key=lambda row: row.perplexity)
    for what, how in (("autoencoder", measures), ("plain bound", PLAIN)):
        if options.only not in (None, "vae" if how is measures else "plain"):
            continue
        vae, _, minutes = trained(
            lambda vae, how=how: EvidenceLowerBound(vae, how),
            options.rate,
            options.mean_scale if how is measures else 0.0,
        )
        tokens = sum(len(d.tokens) - d.first_target for d in measured)
        weighted = importance_weighted(vae, measured, torch.Generator().manual_seed(2), k=100)
        parts = bound_parts(vae, heldout, torch.Generator().manual_seed(0))
        figures = parts.figures(torch.Generator().manual_seed(1))
        yield Row(
            what,
            seed,
            math.exp(-float(weighted.sum()) / tokens),
            figures["bound"],
            figures["kl"],
            figures["active_units"],
            figures["mutual_information"],
            minutes,
        )


def report(rows: list[Row], options: argparse.Namespace) -> None:
    """The table and the bars."""
    head = "| training | seed | perplexity | bound | KL | active | nats | minutes |"
    lines = [head, "|" + " --- |" * 8, *(row.cells() for row in rows), ""]
    for seed in range(options.seeds):
        by = {row.what.split(",")[0]: row for row in rows if row.seed == seed}
        if {"without z", "autoencoder"} <= by.keys():
            vae = by["autoencoder"]
            ratio = vae.perplexity / by["without z"].perplexity
            holds = (
                ratio <= BARS["ratio"]
                and vae.active >= BARS["active"] * options.latent_size
                and vae.nats > BARS["nats"]
                and vae.minutes < BARS["minutes"]
            )
            lines.append(
                f"seed {seed}: perplexity ratio {ratio:.3f} (at most {BARS['ratio']}), "
                f"{vae.active:.0f} of {options.latent_size} units, {vae.nats:.2f} nats, "
                f"{vae.minutes:.1f} minutes: {'held' if holds else 'MISSED'}"
            )
    text = "\n".join(lines)
    print(text)
    if options.out is not None:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
