"""Teach the start model of the Chinese demo to rhyme: the second half of its recipe.

    python recipes/chinese_start_model.py --out build/chinese_start
    python recipes/chinese_start_rhymes.py --start build/chinese_start/model --out build/rhyming

Read as they are, 10,975 quatrains do not teach which of some thousand characters rhyme. So each
level rhyme of the Pingshui table, and the oblique tone, has a random vector, which is added to the
embeddings of its characters: what sounds alike begins alike. Then the model reads regulated
quatrains of the same poets (`quatrains_of_train_poets`), one in seven as a whole, of the others the
last rhyme alone is learned. `curve.jsonl` in the output directory is the course.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from chinese_start_model import CONTEXT, nats_per_token
from quatrains_of_train_poets import quatrains_of_train_poets

from textgym.envs.tasks.quatrains import quatrain_texts
from textgym.policies.language_model.causal_lm import CausalLM
from textgym.policies.language_model.checkpoint import save_pretrained
from textgym.policies.pretraining.documents import Document, text_documents
from textgym.policies.pretraining.loop import train_language_model
from textgym.reward_models.rules.pingshui import readings
from textgym.tokenizer import Tokenizer

PHASES = ((200, 0.15), (100, 0.6))  # steps, and the share of poems that are learned whole


def add_sounds(lm: CausalLM, scale: float, seed: int) -> None:
    """Add to the embedding of each character the sum of its n sounds, divided by √n.

    :param scale: standard deviation of what is added; that of the embeddings is .23.
    """
    generator = torch.Generator().manual_seed(seed)
    weight, sounds = lm.model.embed_tokens.weight, dict[str, torch.Tensor]()
    with torch.no_grad():
        for character in sorted({c for text in quatrain_texts(split="train") for c in text}):
            level, is_oblique = readings(character)
            names = sorted(level) + ["oblique"] * is_oblique
            for name in names:
                if name not in sounds:
                    sounds[name] = torch.randn(weight.shape[1], generator=generator)
            if names:
                own = torch.stack([sounds[name] for name in names]).sum(0) / len(names) ** 0.5
                weight[lm.tokenizer.encode(character)[0]] += scale * own


class RhymeDocuments:
    """Every poem once an epoch, in another order, of some of them only the last rhyme learned.

    `whole` is the share that is learned from its second character to the stop token.
    """

    def __init__(self, texts: Sequence[str], tokenizer: Tokenizer, seed: int) -> None:
        self.texts, self.tokenizer, self.seed = texts, tokenizer, seed
        self.whole, self.epoch = 1.0, 0

    def __iter__(self) -> Iterator[Document]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        texts = (self.texts[place] for place in rng.permutation(len(self.texts)))
        for document in text_documents(texts, self.tokenizer, context=CONTEXT):
            end = len(document.tokens) - 2  # after the last rhyme: a full stop, and the stop token
            is_whole = rng.random() >= 1 - self.whole
            yield document if is_whole else Document(document.tokens[:end], end - 1)


def main() -> int:
    """Train, and print the figures of the model card."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--start", type=Path, required=True, help="of chinese_start_model.py")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--archives", type=Path, default=Path("build/archives"))
    parser.add_argument("--scale", type=float, default=0.2, help="of the sounds")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--muon-learning-rate", type=float, default=0.01)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lm = CausalLM.from_pretrained(arguments.start).trainable_copy()
    add_sounds(lm, arguments.scale, seed=1)
    texts = quatrains_of_train_poets(arguments.archives)
    print(f"{len(texts)} quatrains")
    documents = RhymeDocuments(texts, lm.tokenizer, seed=0)
    held = quatrain_texts(split="validation")[:100]
    with open(arguments.out / "curve.jsonl", "w", encoding="utf-8") as curve:
        for steps, documents.whole in PHASES:
            train_language_model(
                lm,
                documents,
                heldout=list(text_documents(held, lm.tokenizer, context=CONTEXT)),
                steps=steps,
                batch_size=64,
                learning_rate=arguments.learning_rate,
                muon_learning_rate=arguments.muon_learning_rate,
                weight_decay=0.05,
                dropout=0.1,
                warmup=0.02,
                evaluate_every=25,
                progress_bar=False,
                record=lambda figures: print(json.dumps(figures), file=curve, flush=True),
            )
    save_pretrained(lm, arguments.out / "model", dtype=torch.bfloat16)
    shipped = CausalLM.from_pretrained(arguments.out / "model")
    for split in ("validation", "test"):
        print(f"{split}: {nats_per_token(shipped, quatrain_texts(split=split)):.4f} nats a token")
    return 0


if __name__ == "__main__":
    sys.exit(main())
