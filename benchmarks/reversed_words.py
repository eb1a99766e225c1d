"""Words to write backwards: which, how they are asked for, and what is said of an answer."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np

from textgym.rewards import Reward
from textgym.text_metrics.words import split_words

LETTERS, OCCURRENCES = (4, 8), 2
SPLITS = {"test": 400, "validation": 200, "rl": 800}  # words; the rest may be fine-tuned on
KINDS = ("right", "wrong order", "letters missing", "letters too many", "other letters")


def splits(texts: Sequence[str], counts: dict[str, int] = SPLITS) -> dict[str, list[str]]:
    """Words of some texts, each in one split, and no two splits with a word of the same beginning.

    Beginnings are the first three letters, so that "garden" and "gardens" stay together. A word
    that is a word backwards too ("stop", "level") is left out.

    :param counts: words of each split but the last, "sft", which gets all others.
    """
    low, high = LETTERS
    count = Counter(word for text in texts for word in split_words(text))
    is_plain = re.compile(f"[a-z]{{{low},{high}}}").fullmatch
    words = {w for w, n in count.items() if n >= OCCURRENCES and is_plain(w)}
    kept = sorted(word for word in words if word[::-1] not in words)
    beginnings = sorted({word[:3] for word in kept})
    random.Random(0).shuffle(beginnings)
    by_beginning = {beginning: [w for w in kept if w[:3] == beginning] for beginning in beginnings}
    found, rest = {}, iter(by_beginning.values())
    for name, size in {**counts, "sft": len(kept)}.items():
        part: list[str] = []
        for words_of_one in rest:
            part += words_of_one
            if len(part) >= size:
                break
        random.Random(1).shuffle(part)
        found[name] = part[:size]
    return found


def row(word: str) -> dict[str, str]:
    """The prompt, and the columns that rewards read.

    Letters stand apart, because a token of the model's own is then one letter.
    """
    answer = " ".join(word[::-1])
    return {"prompt": f"Reverse: {' '.join(word)} ->", "answer": answer, "reference": word[::-1]}


def similarity(completions: Sequence[str], reference: Sequence[str]) -> list[float]:
    """Twice the letters in matching blocks over the letters of both, in [0, 1]; 1: the answer.

    Source: Ratcliff and Metzener 1988, "Pattern matching: the gestalt approach", as difflib has it.
    """
    pairs = zip(completions, reference, strict=True)
    return [SequenceMatcher(None, letters(text), right).ratio() for text, right in pairs]


def letters(text: str) -> str:
    """A completion without its spaces."""
    return "".join(text.split())


def graded(completions: Sequence[str], reference: Sequence[str]) -> list[float]:
    """Half for few edits, half for the answer itself, in [0, 1]; what GRPO is paid.

    Few edits: 1 - edits / letters of the answer, at least 0, so that a letter left out costs as
    much as a wrong one.
    """
    scores = []
    for text, right in zip(completions, reference, strict=True):
        closeness = max(0.0, 1 - edits(letters(text), right) / len(right))
        scores.append((closeness + (letters(text) == right)) / 2)
    return scores


def edits(text: str, right: str) -> int:
    """Letters to put in, take out or replace until a text is the other.

    Source: Levenshtein 1966, by Wagner and Fischer's table (1974), one row of it at a time.
    """
    row = list(range(len(right) + 1))
    for i, letter in enumerate(text, start=1):
        above, row = row, [i]
        for j, wanted in enumerate(right, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != wanted)))
    return row[-1]


def shuffled(seed: int) -> Reward:
    """The rewards of `graded`, each given to another text of the rollout, never to its own."""
    rng = np.random.default_rng(seed)

    def reward(completions: Sequence[str], reference: Sequence[str]) -> list[float]:
        order = rng.permutation(len(completions))
        scores = np.array(graded(completions, reference))
        scores[order] = np.roll(scores[order], 1)
        return scores.tolist()

    return reward


def kind(completion: str, right: str) -> str:
    """What is wrong with an answer, one of `KINDS`.

    :param right: the word backwards, without spaces.
    """
    given, wanted = Counter(letters(completion)), Counter(right)
    if letters(completion) == right:
        return KINDS[0]
    missing, added = wanted - given, given - wanted
    return KINDS[1 + bool(missing) + 2 * bool(added)]  # both: other letters
