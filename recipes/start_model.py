"""Train the start model that the package ships: plain English that turns into reviews.

    python recipes/prepare_start_corpus.py --out build/start
    python recipes/start_model.py --corpus build/start --out build/start_model

One course of `COURSE` epochs under one cosine schedule: dictionary definitions, editorials and
plots at first, more and more reviews towards the end, where the learning rate is low. The weights
that do best on the validation reviews are kept; the test reviews are read once, at the end.
`curve.jsonl` in the output directory is the whole course.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from textgym.envs.tasks.movie_reviews import review_texts
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import save_pretrained
from textgym.policies.pretraining.documents import Document, text_documents
from textgym.policies.pretraining.loop import train_language_model
from textgym.policies.pretraining.objective import heldout_loss
from textgym.tokenizer import Tokenizer

CONTEXT = 256
VOCABULARY = 4096
# Of each epoch: the share of WordNet, and how often the other prose and the reviews come.
COURSE = [(1.0, 1, 1), (0.8, 1, 2), (0.6, 1, 2), (0.4, 1, 3), (0.2, 1, 3), (0.2, 1, 3), (0.1, 1, 3)]


class Course:
    """The documents of one epoch after the other, each in an order of its own.

    WordNet comes sorted by part of speech and field: read in that order, a model drifts along.
    """

    def __init__(
        self,
        wordnet: Sequence[Document],
        prose: Sequence[Document],
        reviews: Sequence[Document],
        seed: int,
    ) -> None:
        self.wordnet, self.prose, self.reviews = wordnet, prose, reviews
        self.seed, self.epoch = seed, 0

    def __len__(self) -> int:
        """Documents of the whole course."""
        return sum(len(self._epoch(epoch)) for epoch in range(len(COURSE)))

    def __iter__(self) -> Iterator[Document]:
        documents = self._epoch(self.epoch)
        self.epoch += 1
        return iter(documents)

    def _epoch(self, epoch: int) -> list[Document]:
        rng = np.random.default_rng([self.seed, epoch])
        share, prose, reviews = COURSE[min(epoch, len(COURSE) - 1)]
        chosen = rng.permutation(len(self.wordnet))[: round(share * len(self.wordnet))]
        documents = [self.wordnet[i] for i in chosen]
        documents += [*self.prose] * prose + [*self.reviews] * reviews
        return [documents[i] for i in rng.permutation(len(documents))]


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
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = ("wordnet", "prose", "reviews", "snippets")
    texts = {name: read_lines(arguments.corpus / f"{name}.txt") for name in names}
    film = texts["reviews"] + texts["snippets"]
    tokenizer = Tokenizer.train_bpe(
        [*film, *film, *texts["prose"], *texts["wordnet"]], vocab_size=VOCABULARY
    )
    lm = CausalLM.new(  # with --resume its weights are replaced
        tokenizer,
        seed=arguments.seed,
        hidden_size=192,
        num_hidden_layers=6,
        intermediate_size=512,
        max_position_embeddings=CONTEXT,
    )
    course = Course(
        *(
            list(text_documents(part, tokenizer, context=CONTEXT))
            for part in (texts["wordnet"], texts["prose"], film)
        ),
        seed=arguments.seed,
    )
    validation = review_texts("validation")
    held = list(text_documents(validation, tokenizer, context=CONTEXT))
    bits_per_nat = sum(len(d.tokens) - 1 for d in held) / math.log(2) / sum(map(len, validation))
    with open(arguments.out / "curve.jsonl", "a", encoding="utf-8") as curve:

        def record(figures: dict[str, float]) -> None:
            bits = figures["heldout_loss"] * bits_per_nat
            row = {**figures, "validation_bits_per_character": round(bits, 4)}
            print(json.dumps(row), file=curve, flush=True)
            print(row, flush=True)

        train_language_model(
            lm,
            course,
            heldout=held,
            steps=len(course) // arguments.batch_size,
            batch_size=arguments.batch_size,
            muon_learning_rate=0.02,
            learning_rate=3e-3,
            weight_decay=arguments.weight_decay,
            dropout=arguments.dropout,
            warmup=0.02,
            evaluate_every=250,
            autocast=True,
            seed=arguments.seed,
            progress_bar=False,
            checkpoints=arguments.out / "checkpoints",
            resume=arguments.resume,
            record=record,
        )
    save_pretrained(lm, arguments.out / "model", dtype=torch.bfloat16)
    shipped = CausalLM.from_pretrained(arguments.out / "model")
    print("test bits/character:", round(bits_per_character(shipped, review_texts("test")), 4))
    return 0


if __name__ == "__main__":
    sys.exit(main())
