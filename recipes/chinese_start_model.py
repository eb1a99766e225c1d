"""Train the start model of the Chinese demo: quatrains of Tang and Song, a token a character.

    python recipes/chinese_start_model.py --out build/chinese_start

It reads the bundled quatrains of the split `train`, of both forms, and nothing else: none of the
poets by whom its texts are judged. The weights that do best on the poets of `validation` are kept;
those of `test` are read once, at the end. `curve.jsonl` in the output directory is the course.
"""

import argparse
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from textgym.envs.tasks.quatrains import load_quatrains, quatrain_texts, quatrain_tokenizer
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import save_pretrained
from textgym.policies.pretraining.documents import Document, text_documents
from textgym.policies.pretraining.loop import train_language_model
from textgym.policies.pretraining.objective import heldout_loss
from textgym.reward_models.rules.pingshui import readings
from textgym.reward_models.rules.quatrains import rhyme_score, tone_score
from textgym.tokenizer import Tokenizer

CONTEXT = 64  # the longest poem has 33 tokens with the one that ends it


class Recombined:
    """Each poem once an epoch, three in four with the last couplet of another on its rhyme.

    A rhyme is a class of some hundred characters, and a poem shows one pair of it: read as they
    are, the poems are learned by heart before the classes are. A new couplet stays only where the
    whole keeps rhyme and tones.
    """

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.poems = load_quatrains(split="train")
        self.tokenizer, self.seed, self.epoch = tokenizer, seed, 0
        self.couplets: dict[tuple[str, str], list[str]] = defaultdict(list)
        for poem in self.poems:
            half = len(poem.text) // 2
            for rhyme in readings(poem.text[-2]).level:
                self.couplets[poem.form, rhyme].append(poem.text[half:])

    def __len__(self) -> int:
        """Documents of an epoch."""
        return len(self.poems)

    def __iter__(self) -> Iterator[Document]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        texts = [self._text(place, rng) for place in rng.permutation(len(self.poems))]
        return text_documents(texts, self.tokenizer, context=CONTEXT)

    def _text(self, place: int, rng: np.random.Generator) -> str:
        poem = self.poems[place]
        half = len(poem.text) // 2
        rhymes = sorted(readings(poem.text[half - 2]).level)
        for _ in range(6 if rng.random() < 0.75 else 0):
            others = self.couplets[poem.form, rhymes[rng.integers(len(rhymes))]]
            if not others:
                break
            text = poem.text[:half] + others[rng.integers(len(others))]
            if rhyme_score(text) == 1 and tone_score(text) == 1:
                return text
        return poem.text


def nats_per_token(lm: CausalLM, texts: Sequence[str]) -> float:
    """Of held-out poems, from their second character to the stop token."""
    return heldout_loss(lm, list(text_documents(texts, lm.tokenizer, context=CONTEXT)))


def main() -> int:
    """Train, and print the figures of the model card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--muon-learning-rate", type=float, default=0.02)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    lm = CausalLM.new(
        quatrain_tokenizer(),
        seed=arguments.seed,
        hidden_size=arguments.hidden,
        num_hidden_layers=arguments.layers,
        intermediate_size=64 * round(arguments.hidden * 8 / 3 / 64),
        max_position_embeddings=CONTEXT,
    )
    documents = Recombined(lm.tokenizer, arguments.seed)
    held = list(text_documents(quatrain_texts(split="validation"), lm.tokenizer, context=CONTEXT))
    with open(arguments.out / "curve.jsonl", "a", encoding="utf-8") as curve:

        def record(figures: dict[str, float]) -> None:
            print(json.dumps(figures), file=curve, flush=True)
            print(figures, flush=True)

        train_language_model(
            lm,
            documents,
            heldout=held,
            steps=arguments.epochs * len(documents) // arguments.batch_size,
            batch_size=arguments.batch_size,
            learning_rate=arguments.learning_rate,
            muon_learning_rate=arguments.muon_learning_rate,
            weight_decay=arguments.weight_decay,
            dropout=arguments.dropout,
            warmup=0.02,
            evaluate_every=100,
            autocast=True,
            seed=arguments.seed,
            progress_bar=False,
            checkpoints=arguments.out / "checkpoints",
            resume=arguments.resume,
            record=record,
        )
    save_pretrained(lm, arguments.out / "model", dtype=torch.bfloat16)
    shipped = CausalLM.from_pretrained(arguments.out / "model")
    print("parameters:", sum(p.numel() for p in shipped.parameters()))
    for split in ("validation", "test"):
        print(f"{split}: {nats_per_token(shipped, quatrain_texts(split=split)):.4f} nats a token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
