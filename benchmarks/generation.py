"""Tokens a second of `CausalLM.generate` beside transformers' own: one checkpoint, both sample.

    python benchmarks/generation.py DIRECTORY [--batches 1,32] [--new-tokens 48] [--repeats 3]

One process; after a warm-up of both each repetition runs them in turn, on equal prompts of 16
tokens, float32. Counted are tokens that were written, each row's first stop token included.
Seconds are processor time on one thread, so that a busy machine does no harm; with `--threads` more
than one they are wall-clock time. The ratio is the median over the repetitions. Writes
`results/generation.md`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import where

from textgym.envs.tasks.movie_reviews import review_texts
from textgym.policies import CausalLM, Sampling
from textgym.policies.language_model.generation import generate_tokens

PROMPT = 16


def ours(lm: CausalLM, rows: list[list[int]], new_tokens: int) -> Callable[[int], int]:
    """Writes once, and says how many tokens."""

    def run(seed: int) -> int:
        generator = torch.Generator().manual_seed(seed)
        written = generate_tokens(
            lm, rows, max_new_tokens=new_tokens, sampling=Sampling(), generator=generator
        )
        return sum(min(len(row) + 1, new_tokens) for row in written)  # with the stop token

    return run


def theirs(model: Any, stop: list[int], rows: list[list[int]], new: int) -> Callable[[int], int]:
    """The same by transformers, which draws from torch's global generator."""
    prompts = torch.tensor(rows)
    is_prompt = torch.ones_like(prompts)

    def run(seed: int) -> int:
        torch.manual_seed(seed)
        written = model.generate(
            prompts,
            attention_mask=is_prompt,
            do_sample=True,
            top_k=0,
            max_new_tokens=new,
            pad_token_id=stop[0],
            eos_token_id=stop,
        )[:, prompts.shape[1] :]
        is_stop = torch.isin(written, torch.tensor(stop))
        before = is_stop.cumsum(1) - is_stop.long()
        return int((before == 0).sum())

    return run


def measure(cases: list[Callable[[int], int]], repeats: int, clock: Callable[[], float]) -> Any:
    """Tokens a second of each, `[repeat][case]`."""
    for case in cases:
        case(0)
    speeds = []
    for repeat in range(repeats):
        row = [0.0] * len(cases)
        for k in range(len(cases)):
            k = (k + repeat) % len(cases)  # another one first each time
            began = clock()
            tokens = cases[k](repeat)
            row[k] = tokens / (clock() - began)
        speeds.append(row)
    return speeds


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path)
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/generation.md"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    from transformers import AutoModelForCausalLM

    header = where(arguments.threads)
    lm = CausalLM.from_pretrained(arguments.directory)
    model = AutoModelForCausalLM.from_pretrained(arguments.directory, dtype=torch.float32).eval()
    stop = sorted(lm.tokenizer.eos_token_ids)
    encoded = (ids[:PROMPT] for ids in lm.tokenizer.encode_batch(review_texts("test")))
    prompts = [ids for ids in encoded if len(ids) == PROMPT]
    clock = time.process_time if arguments.threads == 1 else time.perf_counter
    lines = ["| rows | textgym, tokens/s | transformers, tokens/s | ratio | range |"]
    lines.append("|---:|---:|---:|---:|---|")
    for batch in map(int, arguments.batches.split(",")):
        rows = prompts[:batch]
        cases = [ours(lm, rows, arguments.new_tokens)]
        cases.append(theirs(model, stop, rows, arguments.new_tokens))
        speeds = measure(cases, arguments.repeats, clock)
        ratios = sorted(a / b for a, b in speeds)
        mean = [statistics.median(row[k] for row in speeds) for k in range(2)]
        ratio = f"{statistics.median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f}"
        lines.append(f"| {batch} | {mean[0]:,.1f} | {mean[1]:,.1f} | {ratio} |")
        print(lines[-1], flush=True)
    title = f"# Generation, {arguments.directory.name}, {PROMPT} + {arguments.new_tokens} tokens"
    page = "\n".join([title, "", *lines, "", *header, ""])
    arguments.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
