"""Character, BPE and word tokens on one corpus: bits per character and samples of equal models.

    python benchmarks/tokenizers_study.py CORPUS [--steps 1000] [--vocab-size 4096]

The corpus is cleaned, and a tenth held out. The three models have the same width and depth, the
same optimizer steps and as many tokens a step; their embeddings differ with the vocabulary. Since
tokens differ in length, the loss of each is counted in bits per character of the held-out texts.
A word of a text is what `Segmenter` cuts (Chinese: rjieba).
"""

import argparse
import math
import time
from pathlib import Path

import torch
from machine import where

from textgym.envs.texts import Cleaner, read_texts, split_heldout
from textgym.envs.texts.preparation import Segmenter
from textgym.policies import CausalLM
from textgym.policies.pretraining import heldout_loss, text_documents, train_language_model
from textgym.tokenizer import Tokenizer


def tokenizers(texts: list[str], vocab_size: int) -> dict[str, Tokenizer]:
    """One of each kind, of the training texts."""
    segmenter = Segmenter()
    segmented = (" ".join(segmenter.words(text)) for text in texts)
    return {
        "character": Tokenizer.character(texts),
        "bpe": Tokenizer.train_bpe(texts, vocab_size=vocab_size),
        "word": Tokenizer.words(segmented, vocab_size=vocab_size),
    }


def bits_per_character(lm: CausalLM, texts: list[str], context: int) -> float:
    """Of held-out texts, their stop tokens included.

    A text longer than the context is read in pieces, each without what stood before.
    """
    documents = list(text_documents(texts, lm.tokenizer, context=context))
    tokens = sum(len(document.tokens) - document.first_target for document in documents)
    return heldout_loss(lm, documents) * tokens / math.log(2) / sum(map(len, texts))


def main() -> None:
    """Train, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", nargs="+")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--num-hidden-layers", type=int, default=4)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--heldout-texts", type=int, default=500)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tokenizers_study.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    page = ["# Character, BPE and word tokens", "", *where(1), ""]
    cleaned = Cleaner().clean(read_texts(arguments.corpus))
    training, held = (list(part) for part in split_heldout(list(cleaned), 0.1, 0))
    held = held[: arguments.heldout_texts]
    page += [f"{len(training):,} training texts, {len(held):,} held-out ones.", ""]
    page += ["| tokens | vocabulary | characters a token | bits a character | seconds |"]
    page += ["|---|---:|---:|---:|---:|"]
    samples: list[str] = []
    for name, tokenizer in tokenizers(training, arguments.vocab_size).items():
        lm = CausalLM.new(
            tokenizer,
            seed=0,
            hidden_size=arguments.hidden_size,
            num_hidden_layers=arguments.num_hidden_layers,
            max_position_embeddings=arguments.context,
        )
        documents = list(text_documents(training, tokenizer, context=arguments.context))
        start = time.process_time()
        train_language_model(lm, documents, steps=arguments.steps, seed=0, progress_bar=False)
        seconds = time.process_time() - start
        length = sum(map(len, held)) / sum(map(len, tokenizer.encode_batch(held)))
        bits = bits_per_character(lm, held, arguments.context)
        figures = f"{tokenizer.vocab_size:,} | {length:.2f} | {bits:.3f} | {seconds:,.0f}"
        page.append(f"| {name} | {figures} |")
        print(page[-1], flush=True)
        prompts = [text[:2] for text in held[:5]]
        written = zip(prompts, lm.generate(prompts, max_new_tokens=40, seed=0), strict=True)
        samples += [f"## {name}", "", *(f"- {a}|{b!r}" for a, b in written), ""]
    arguments.out.write_text("\n".join([*page, "", *samples]), encoding="utf-8")


if __name__ == "__main__":
    main()
