"""Train the start model that the package ships: plain English first, then reviews.

    python recipes/prepare_start_corpus.py --out build/start
    python recipes/start_model.py --corpus build/start --out build/start_model

Stage 1 reads WordNet's definitions and examples with the reviews mixed in; stage 2 reads the
reviews and further critics' snippets alone, and keeps the weights that do best on the validation
reviews. The test reviews are read once, at the end. `curve.jsonl` in the output directory is the
whole course.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from textgym.envs.movie_reviews import review_texts
from textgym.policies.causal_lm import CausalLM
from textgym.policies.checkpoint import save_pretrained
from textgym.policies.documents import Document, text_documents
from textgym.policies.pretraining import heldout_loss, train_language_model
from textgym.tokenizer import Tokenizer

CONTEXT = 256
VOCABULARY = 4096


class Mixture:
    """All of WordNet once and the reviews several times an epoch, in a new order each time.

    WordNet comes sorted by part of speech and field: read in that order, a model drifts along.
    """

    def __init__(
        self, wordnet: list[Document], reviews: list[Document], repeats: int, seed: int
    ) -> None:
        self.documents, self.seed, self.epoch = wordnet + reviews * repeats, seed, 0

    def __iter__(self) -> Iterator[Document]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.documents))
        self.epoch += 1
        return (self.documents[i] for i in order)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file."""
    return path.read_text(encoding="utf-8").splitlines()


def bits_per_character(lm: CausalLM, texts: list[str]) -> float:
    """Bits per character of held-out texts, the stop token included."""
    documents = list(text_documents(texts, lm.tokenizer, context=CONTEXT))
    nats = heldout_loss(lm, documents) * sum(len(d.tokens) - 1 for d in documents)
    return nats / math.log(2) / sum(len(text) for text in texts)


def main() -> int:
    """Train, and print the figures of the model card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=110.0)
    parser.add_argument("--review-minutes", type=float, default=20.0, help="stage 2")
    parser.add_argument("--review-rate", type=float, default=0.01, help="Muon's, in stage 2")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--stage-2-from", type=Path, help="a checkpoint; leaves out stage 1")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    wordnet = read_lines(arguments.corpus / "wordnet.txt")
    reviews = read_lines(arguments.corpus / "reviews.txt")
    validation = review_texts("validation")
    if arguments.stage_2_from is None:
        lm = CausalLM.new(
            Tokenizer.train_bpe([*reviews, *reviews, *wordnet], vocab_size=VOCABULARY),
            seed=arguments.seed,
            hidden_size=192,
            num_hidden_layers=6,
            intermediate_size=512,
            max_position_embeddings=CONTEXT,
        )
    else:
        lm = CausalLM.from_pretrained(arguments.stage_2_from)
    tokenizer = lm.tokenizer
    stages = [
        ("mixture", arguments.minutes - arguments.review_minutes, 0.02, 3e-3, 0.05),
        (
            "reviews",
            arguments.review_minutes,
            arguments.review_rate,
            arguments.review_rate / 10,
            0.15,
        ),
    ]
    snippets = read_lines(arguments.corpus / "snippets.txt")
    review_documents = list(text_documents(reviews, tokenizer, context=CONTEXT))
    film_documents = review_documents + list(text_documents(snippets, tokenizer, context=CONTEXT))
    mixture = Mixture(
        list(text_documents(wordnet, tokenizer, context=CONTEXT)),
        review_documents,
        repeats=3,
        seed=arguments.seed,
    )
    held = list(text_documents(validation, tokenizer, context=CONTEXT))
    bits_per_nat = sum(len(d.tokens) - 1 for d in held) / math.log(2) / sum(map(len, validation))
    curve = open(arguments.out / "curve.jsonl", "a", encoding="utf-8")
    for name, minutes, muon_learning_rate, learning_rate, dropout in stages:
        if name == "mixture" and arguments.stage_2_from is not None:
            continue

        def record(figures: dict[str, float], stage: str = name) -> None:
            bits = figures["heldout_loss"] * bits_per_nat
            row = {"stage": stage, **figures, "validation_bits_per_character": round(bits, 4)}
            curve.write(json.dumps(row) + "\n")
            curve.flush()
            print(row, flush=True)

        train_language_model(
            lm,
            mixture if name == "mixture" else film_documents,
            heldout=held,
            seconds=minutes * 60,
            batch_size=arguments.batch_size,
            muon_learning_rate=muon_learning_rate,
            learning_rate=learning_rate,
            weight_decay=0.01,
            dropout=dropout,
            evaluate_every=(32_000 if name == "mixture" else 6_400) // arguments.batch_size,
            autocast=True,
            seed=arguments.seed,
            progress_bar=False,
            checkpoints=arguments.out / "checkpoints" / name,
            record=record,
        )
    curve.close()
    save_pretrained(lm, arguments.out / "model", dtype=torch.bfloat16)
    shipped = CausalLM.from_pretrained(arguments.out / "model")
    print("test bits/character:", round(bits_per_character(shipped, review_texts("test")), 4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
