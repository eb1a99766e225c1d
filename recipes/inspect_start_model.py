"""How much a start model copies, and samples of what it writes: figures of its model card.

    python recipes/inspect_start_model.py MODEL --corpus build/start --samples build/samples.jsonl

Spans of eight words (letters and digits, lower case) of the model's texts are looked up in its
training texts. The same count for real held-out reviews says what chance alone gives.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from textgym.envs.tasks.movie_reviews import review_texts
from textgym.policies.language_model.causal_lm import CausalLM

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return WORD.findall(text.lower())


def spans(text: str, size: int) -> list[tuple[str, ...]]:
    """All runs of `size` words."""
    tokens = words(text)
    return [tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)]


def longest_copy(text: str, known: dict[int, set[tuple[str, ...]]]) -> int:
    """Words of the longest run that stands in the training texts (0 below the smallest size)."""
    return max(
        (n for n, held in known.items() if any(s in held for s in spans(text, n))), default=0
    )


def copied_share(texts: Iterable[str], held: set[tuple[str, ...]], size: int) -> float:
    """Share of the spans of `size` words that stand in the training texts."""
    found = total = 0
    for text in texts:
        own = spans(text, size)
        total += len(own)
        found += sum(span in held for span in own)
    return found / max(total, 1)


def real_prompts(texts: Sequence[str], count: int) -> list[tuple[str, str]]:
    """(first three words, the rest) of held-out reviews that are long enough."""
    long_enough = [text for text in texts if len(text.split(" ")) >= 8]
    step = max(1, len(long_enough) // count)
    chosen = [text.split(" ") for text in long_enough[::step][:count]]
    return [(" ".join(parts[:3]), " " + " ".join(parts[3:])) for parts in chosen]


def main() -> int:
    """Write samples and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--samples", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=160)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--rounds", type=int, default=4, help="sets of samples for the copy check")
    arguments = parser.parse_args()
    lm = CausalLM.from_pretrained(arguments.model)
    test = review_texts("test")
    pairs = real_prompts(test, arguments.prompts)
    prompts = [prompt for prompt, _ in pairs]
    texts: list[list[str]] = [
        lm.generate(prompts, max_new_tokens=60, temperature=arguments.temperature, seed=seed)
        for seed in range(arguments.rounds)
    ]
    with open(arguments.samples, "w", encoding="utf-8") as file:
        for (prompt, real), written in zip(pairs, texts[0], strict=True):
            row = {"prompt": prompt, "written": written, "real": real}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    known: dict[int, set[tuple[str, ...]]] = {size: set() for size in range(8, 21)}
    for name in ("wordnet.txt", "prose.txt", "reviews.txt", "snippets.txt"):
        for line in (arguments.corpus / name).read_text(encoding="utf-8").splitlines():
            for size, held in known.items():
                held.update(spans(line, size))
    written = [p + c for row in texts for p, c in zip(prompts, row, strict=True)]
    print(
        f"8-word spans that stand in the training texts: {copied_share(written, known[8], 8):.4%}"
    )
    print(f"the same for held-out reviews: {copied_share(test, known[8], 8):.4%}")
    print(f"longest copied run: {max(longest_copy(text, known) for text in written)} words")
    for prompt, text in list(zip(prompts, texts[0], strict=True))[:20]:
        print(f"- {prompt} |{text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
