"""MB/s and memory of each step of preparation over generated text, on one core.

    python benchmarks/preparation.py --megabytes 1000   # what the issue asks for
    python benchmarks/preparation.py --megabytes 20     # a look

Each step passes the text in a process of its own. Speed is processor time without that of making
the text, so that a busy machine does not matter; memory is the process's resident set, with what
is swapped out, after a tenth of the text and at the end, with the step still there. `datasketch` is
not a step: it is the library's MinHash LSH at the same number of hashes, beside our index of
near-copies (it needs `pip install datasketch`).
"""

import argparse
import functools
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from machine import where

from textgym.envs.tasks.movie_reviews import review_texts
from textgym.envs.texts.preparation import TextPipeline
from textgym.envs.texts.preparation.catalogue import STEPS, step_of
from textgym.near_copies import BANDS, ROWS, text_key
from textgym.near_copy_index import NearCopyIndex

ARGUMENTS = {"language": ",keep=en+zh", "split": ",test=0.05"}
CHINESE = "我来到北京清华大学。他是云计算方面的专家，今天天气很好，我们去公园散步吧！故事有点无聊。"
COPIES = 0.1  # share of texts that copy an earlier one, but for a word
WORDS_A_TEXT = 80


def generated(megabytes: float) -> Iterator[str]:
    """English texts of random words of the bundled reviews, a fifth of them Chinese sentences."""
    rng = np.random.default_rng(0)
    vocabulary = np.array(sorted({w for text in review_texts("judge") for w in text.split()}))
    sentences = [part for part in CHINESE.replace("！", "。").split("。") if part]
    left, last = megabytes * 1e6, ""
    while left > 0:
        kind = rng.random()
        if kind < COPIES and last:
            text = last.replace(" ", f" {rng.choice(vocabulary)} ", 1)
        elif kind < COPIES + 0.2:
            text = "，".join(rng.permutation(sentences)) + f"。{rng.integers(10**9)}"
        else:
            text = last = " ".join(rng.choice(vocabulary, WORDS_A_TEXT).tolist())
        left -= len(text.encode("utf-8"))
        yield text


class Meter:
    """Passes texts on; counts them, and remembers the memory at a tenth and at the end."""

    def __init__(self, texts: Iterable[str], megabytes: float) -> None:
        self.texts, self.total = texts, megabytes * 1e6
        self.read = self.documents = 0
        self.early = self.end = 0.0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.read += len(text.encode("utf-8"))
            self.documents += 1
            if not self.early and self.read > self.total / 10:
                self.early = resident()
            yield text
        self.end = resident()  # now, since a step that has ended gives back what it held


def resident() -> float:
    """MB of memory that this process has now, what the system has swapped out included."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return sum(int(x.split()[1]) for x in lines if x.startswith(("VmRSS:", "VmSwap:"))) * 1024 / 1e6


def measure(name: str, megabytes: float) -> dict[str, float]:
    """One step over the whole text; "" for no step."""
    meter = Meter(generated(megabytes), megabytes)
    spec = name + ARGUMENTS.get(name, "")
    start = time.process_time()
    if name == "datasketch":
        left = sum(1 for _ in kept_by_datasketch(meter))
    else:
        left = sum(1 for _ in TextPipeline([step_of(spec)] if name else []).texts(meter))
    seconds = time.process_time() - start
    growth = 1e6 * (meter.end - meter.early) / max(0.9 * left, 1)
    return {
        "seconds": seconds, "megabytes": meter.read / 1e6, "documents": meter.documents,
        "left": left, "early": meter.early, "end": meter.end, "growth": growth,
    }  # fmt: skip


def kept_by_datasketch(texts: Iterable[str]) -> Iterator[str]:
    """What the library's MinHash LSH keeps, of the same 5-grams and as many hashes."""
    import datasketch

    lsh = datasketch.MinHashLSH(threshold=0.7, num_perm=BANDS * ROWS)
    for number, text in enumerate(texts):
        key = text_key(text)
        marks = datasketch.MinHash(num_perm=BANDS * ROWS)
        marks.update_batch({key[i : i + 5].encode("utf-8") for i in range(len(key) - 4)})
        if not lsh.query(marks):
            lsh.insert(str(number), marks)
            yield text


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=1000)
    parser.add_argument("--only", default="", help="steps, joined by +")
    parser.add_argument("--datasketch", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/preparation.md"))
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a process of its own
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.one, arguments.megabytes)))
        return
    names = arguments.only.split("+") if arguments.only else list(STEPS)
    names += ["datasketch"] if arguments.datasketch else []
    header, run = where(1), functools.partial(in_a_process, megabytes=arguments.megabytes)
    base = run("")
    rows = ["| step | MB/s | MB at a tenth | MB at the end | bytes a text left | texts left |"]
    rows.append("|---|---:|---:|---:|---:|---:|")
    for name in names:
        found = run(name)
        seconds = max(found["seconds"] - base["seconds"], base["seconds"] / 50)
        is_fast = found["seconds"] - base["seconds"] < base["seconds"] / 50  # lost in the noise
        speed = f"{'over ' if is_fast else ''}{found['megabytes'] / seconds:,.1f}"
        cells = [speed, f"{found['early']:,.0f}"]
        cells += [f"{found['end']:,.0f}", f"{found['growth']:,.0f}", f"{found['left']:,.0f}"]
        rows.append(f"| {name} | {' | '.join(cells)} |")
        print(rows[-1], flush=True)
    texts = f"{base['documents']:,.0f} texts, {base['megabytes']:,.0f} MB"
    notes = [
        f"{texts}. Without a step, {base['early']:,.0f} MB and {base['end']:,.0f} MB.",
        f"The index of near-copies holds {NearCopyIndex.BYTES} bytes a text that it keeps, the "
        "array of signatures up to a quarter to spare, and two runs of codes twice while merging.",
    ]
    page = ["# Steps of preparation", "", *header, "", *rows, "", *notes, ""]
    arguments.out.write_text("\n".join(page), encoding="utf-8")


def in_a_process(name: str, megabytes: float) -> dict[str, float]:
    """The measurement of one step, in a fresh process."""
    command = [sys.executable, __file__, "--one", name, "--megabytes", str(megabytes)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(result.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
