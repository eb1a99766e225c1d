"""Peak memory of an update of a model of SmolLM2-135M's shape, with and without each saving.

    python benchmarks/memory.py [--tokens 512] [--rows 4] [--updates 1] [--threads 1]

Each row is a process of its own: a language model with random weights (30 layers of 576, 9 heads
and 3 of keys and values, 1,536 inside, 49,152 tokens), an agent's policy with its optimizer, and
the reference of the KL term; then log-probabilities under the reference, one update of PPO's kind
and its step. Peak is the largest resident size from there on (Linux only), minus that of the
process before there was a model. Adam's moments come into being in its first step, so they stand
beside the activations from the second update on (`--updates 2`). Seconds are CPU time of the last
update, and no claim of speed. Without bfloat16 unless `--half`: a processor that has no such
instructions takes minutes. Writes `benchmarks/results/memory.md`.
"""

import argparse
import ctypes
import gc
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import where

SHAPE = {
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 1536,
    "vocab_size": 49152,
}
ADAPTER = {"lora_rank": 16}
HALF = {"dtype": "bfloat16"}
LAYERS = {"gradient_checkpointing": True}
PARTS = {"micro_batch_tokens": 512}
EIGHT_BITS = {"optimizer": "adam_8bit"}
# What a row says, how many texts of `--tokens` tokens, and the policy's keywords.
ROWS: list[tuple[str, int, dict[str, Any]]] = [
    ("all weights learn", 1, {}),
    ("all weights learn, moments in 8 bits", 1, EIGHT_BITS),
    ("LoRA", 1, ADAPTER),
    ("LoRA, layers computed again", 1, {**ADAPTER, **LAYERS}),
    ("all weights, layers computed again", 1, LAYERS),
    ("all weights, log-probabilities at once", 4, {"at_once": True}),
    ("all weights", 4, {}),
    ("all weights, parts of 512 tokens", 4, PARTS),
    ("LoRA, layers computed again, parts of 512 tokens", 4, {**ADAPTER, **LAYERS, **PARTS}),
    ("all weights, bfloat16", 1, HALF),
    ("LoRA, bfloat16", 1, {**ADAPTER, **HALF}),
]


def measure(
    texts: int, tokens: int, keywords: dict[str, Any], threads: int, updates: int
) -> dict[str, float]:
    """Peak in bytes over the imports, CPU seconds of an update and its step; in this process."""
    import numpy as np
    import torch
    from gymnasium import spaces

    from textgym.agents.rollouts.kl import KLPenalty
    from textgym.optimization import ScaledAdam, ScaledAdam8bit
    from textgym.policies import CausalLMConfig, TextActorCriticPolicy
    from textgym.policies.language_model import chunks
    from textgym.policies.language_model.packing import pack_segments
    from textgym.tokenizer import Tokenizer

    torch.set_num_threads(threads)
    keywords = dict(keywords)
    if keywords.pop("at_once", False):
        chunks.LARGEST = 2**60
    optimizer_class: type = ScaledAdam
    if keywords.pop("optimizer", "adam") == "adam_8bit":
        import bitsandbytes  # noqa: F401

        optimizer_class = ScaledAdam8bit
    if "lora_rank" in keywords:
        import peft  # noqa: F401
    imported = resident("VmRSS")
    tokenizer = Tokenizer.byte()
    shape = CausalLMConfig(max_position_embeddings=tokens, **SHAPE), tokenizer
    space = spaces.Box(0, 10**6, (tokens,), np.int64)
    actions = spaces.Discrete(tokenizer.vocab_size)
    policy = TextActorCriticPolicy(
        space, actions, lambda _: 1e-5, model=shape, optimizer_class=optimizer_class, **keywords
    )
    # The environment would have the byte tokenizer's actions; the head is as wide as the model's.
    policy.action_space = spaces.Discrete(SHAPE["vocab_size"])
    policy.excluded_ids = policy.excluded_ids[:2]
    reference = None if "lora_rank" in keywords else policy.lm
    kl = KLPenalty(reference, dtype=keywords.get("dtype", "float32"))
    kl.fit_to(space)
    rng = np.random.default_rng(0)
    rows = [rng.integers(3, SHAPE["vocab_size"], tokens) for _ in range(texts)]
    packed = pack_segments(rows, [np.arange(tokens)] * texts)
    chosen = torch.as_tensor(rng.integers(3, 250, len(packed)))
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is no part of the peak
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here on
    for _ in range(updates):
        policy.optimizer.zero_grad()
        began = time.process_time()
        expected = kl.log_probs(packed, chosen)
        policy.set_training_mode(True)
        values, log_prob, entropy = policy.evaluate_actions(packed, chosen)
        loss = -((log_prob - expected).exp()).mean() + values.square().mean() + 0 * entropy.mean()
        loss.backward()
        del values, log_prob, entropy, loss
        before = time.process_time()
        policy.optimizer.step()
        step, seconds = time.process_time() - before, time.process_time() - began
    learning = sum(w.numel() for g in policy.optimizer.param_groups for w in g["params"])
    peak = resident("VmHWM") - imported
    return {"bytes": peak, "seconds": seconds, "step": step, "learning": learning}


def resident(name: str) -> int:
    """A resident size of this process in bytes, as Linux counts it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> int:
    """Measure each row in a child, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    default = Path(__file__).resolve().parent / "results" / "memory.md"
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=default)
    parser.add_argument("--rows", type=int, default=len(ROWS), help="only the first so many")
    parser.add_argument("--updates", type=int, default=1, help="of each row, one after another")
    parser.add_argument("--half", action="store_true", help="the rows in bfloat16 too")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row is not None:
        _, texts, keywords = ROWS[options.row]
        found = measure(texts, options.tokens, keywords, options.threads, options.updates)
        print(json.dumps(found))
        return 0
    lines = [
        "# Memory",
        "",
        "| update | tokens | weights that learn, millions | peak, GB | CPU seconds | Adam's |",
        "|---|---|---|---|---|---|",
    ]
    for i, (name, texts, keywords) in enumerate(ROWS[: options.rows]):
        if "dtype" in keywords and not options.half:
            continue
        command = [sys.executable, __file__, "--row", str(i), "--tokens", str(options.tokens)]
        command += ["--threads", str(options.threads), "--updates", str(options.updates)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(answer.stdout.splitlines()[-1])
        tokens, learning = f"{texts} × {options.tokens}", row["learning"] / 1e6
        cells = f"{learning:.1f} | {row['bytes'] / 1e9:.2f} | {row['seconds']:.0f}"
        cells += f" | {row['step']:.1f}"
        lines.append(f"| {name} | {tokens} | {cells} |")
        print(lines[-1], flush=True)
    what = "Random weights of SmolLM2-135M's shape; reference, Adam and its step included; "
    what += f"peak of {options.updates} updates, seconds of the last."
    lines += ["", what, *where(options.threads), ""]
    options.out.write_text("\n".join(lines), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
