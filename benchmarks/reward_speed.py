"""Texts a second of each reward model that `textgym rewards` lists, on one core.

    python benchmarks/reward_speed.py --encoder DIR    # a sentence encoder, for `similarity`

One call with many texts, as in training; processor time, so that a busy machine does not matter.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from machine import where

from textgym.built_in_rewards import BUILT_IN
from textgym.envs.tasks.movie_reviews import review_texts
from textgym.rewards import call_reward
from textgym.rewards_by_name import resolve_reward

ARGUMENTS = {"regex": ",pattern=good", "keyword": ",words=film"}
# Texts of the reward models whose usual text is no review.
CHINESE = [
    "这部电影的画面非常漂亮，但是故事有点无聊，看到一半就不想看了。",
    "性价比很高，服务热情！",
]
POEMS = ["an old silent pond\na frog jumps into the pond\nsplash silence again"]
QUATRAINS = ["白日依山盡，黃河入海流。欲窮千里目，更上一層樓。"]
NUMBERS = ["So 12 apples and 30 pears are 42 pieces of fruit. #### 42"]
JSON = [json.dumps({"name": "Ann", "age": 3, "tags": ["a", "b"]})]
OWN_TEXTS = {
    "chinese_sentiment": CHINESE,
    "rhyme": POEMS,
    "syllables": POEMS,
    "quatrain": QUATRAINS,
    "quatrain_form": QUATRAINS,
    "quatrain_rhyme": QUATRAINS,
    "quatrain_tones": QUATRAINS,
    "numeric_answer": NUMBERS,
    "json_schema": JSON,
}
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name"],
}


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    torch.set_num_threads(1)
    header = where(1)
    rows = []
    for row in BUILT_IN:
        if not (row.facts.speed or "0")[0].isdigit():
            continue  # what it says depends on a network or a person
        spec = row.name + ARGUMENTS.get(row.name, "")
        if row.name == "similarity":
            if arguments.encoder is None:
                raise SystemExit("similarity: --encoder DIR, a sentence encoder of transformers'")
            spec += f",model={arguments.encoder}"
        rows.append((row.name, *measure(spec, arguments.texts)))
        print(*rows[-1], flush=True)
    header.append(
        "- one call with all texts; processor time of one thread, the median of 3 calls after one; "
        "the models of `fluency` and `similarity` are the bundled one (3.4 million parameters) and "
        "all-MiniLM-L6-v2 (22.7 million)"
    )
    page = [
        "# Texts a second of the reward models",
        "",
        *header,
        "",
        "| reward model | texts/s | texts in a call | characters a text | to make it, s |",
        "|---|---|---|---|---|",
        *(
            f"| `{name}` | {speed:,.0f} | {count} | {characters:.0f} | {made:.1f} |"
            for name, speed, count, characters, made in rows
        ),
    ]
    Path(arguments.out).write_text("\n".join(page) + "\n", encoding="utf-8")
    print(f"written to {arguments.out}")


def measure(spec: str, most: int) -> tuple[float, int, float, float]:
    """Texts/s, texts in a call, characters a text, and seconds to make the reward model."""
    name = spec.partition(",")[0]
    texts = OWN_TEXTS.get(name) or review_texts("validation")
    texts = (texts * (1 + most // len(texts)))[:most]
    if name in ("similarity", "fluency", "ngram_fluency"):
        texts = texts[: most // 4]
    columns: dict[str, list[Any]] = {
        "reference": [*texts[1:], texts[0]],
        "answer": ["42"] * len(texts),
        "schema": [SCHEMA] * len(texts),
    }
    prompts = ["The film"] * len(texts)
    reward, made = _clocked(lambda: resolve_reward(spec))

    def ask() -> object:
        return call_reward(reward, prompts, texts, columns)

    ask()
    taken = statistics.median(_clocked(ask)[1] for _ in range(3))
    return len(texts) / taken, len(texts), sum(map(len, texts)) / len(texts), made


def _clocked(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    answer = function()
    return answer, time.process_time() - start


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--encoder", help="directory of a sentence encoder")
    parser.add_argument("--out", default="benchmarks/results/reward_speed.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
