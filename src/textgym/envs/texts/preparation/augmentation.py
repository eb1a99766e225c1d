"""Augmentation: rows made of others by small changes of their words, each with its provenance.

Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
Classification Tasks": synonym replacement, random insertion (of a synonym), swap and deletion.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from textgym.envs.texts.preparation.rows import Row, StepCount
from textgym.envs.texts.preparation.split import TRAIN
from textgym.envs.texts.preparation.step import Step
from textgym.envs.texts.preparation.word_lists import read_synonyms, wordnet_synonyms
from textgym.errors import InputError

Synonyms = Mapping[str, tuple[str, ...]]
OPERATIONS = ("synonym", "insertion", "swap", "deletion")


@dataclass(frozen=True)
class Augment(Step):
    """Adds changed copies behind each training row; held-out rows get none.

    Each copy has one operation, drawn among those whose rate is above 0 and that can be done to
    the text; a rate is the share of the text's words that it touches, at least one. Words are what
    stands between white space: segment Chinese first. A copy that says what its text or another
    copy of it says, or that would fall to another part of the split, is not made.

    :param copies: of each row at most.
    :param synonym: rate of words that a synonym replaces.
    :param insertion: rate of words of which a synonym is put in somewhere.
    :param swap: rate of pairs of words that change places.
    :param deletion: rate of words that are left out; one word always stays.
    :param synonyms: a file of synonyms (word, tab, synonyms); without it, WordNet's (English).
    :param seed: of what is drawn; each row has a generator of its own, so that what is made of it
        does not depend on the rows before.
    """

    key: ClassVar[str] = "augment"
    copies: int = 1
    synonym: float = 0.1
    insertion: float = 0.1
    swap: float = 0.1
    deletion: float = 0.1
    synonyms: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        self._require("copies", 1, 1000, is_whole=True)
        self._require("seed", 0, 2**32 - 1, is_whole=True)
        for name in OPERATIONS:
            self._require(name, 0, 1)
        if not any(getattr(self, name) for name in OPERATIONS):
            raise InputError(f"augment: expected a rate above 0 of {', '.join(OPERATIONS)}")

    def apply(self, rows: Iterator[Row], count: StepCount) -> Iterator[Row]:
        """See `Step.apply`."""
        table = self._table()
        for row in rows:
            yield row
            if row.part not in ("", TRAIN) or row.origin is not None:
                continue
            rng = np.random.default_rng((self.seed, row.number))
            made = {row.text}
            for _ in range(self.copies):
                text, operation, touched = augmented(row.text, self._rates(), table, rng)
                copy = replace(row, text=text)
                if text in made:
                    count.reasons["not made: nothing new"] += 1
                elif row.part_of is not None and row.part_of(copy) != row.part:
                    count.reasons["not made: of another part"] += 1
                else:
                    made.add(text)
                    count.add(row, text, operation)
                    copy.origin = {"row": row.number, "operation": operation, "words": touched}
                    yield copy

    def _rates(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in OPERATIONS}

    def _table(self) -> Synonyms:
        if self.synonyms is not None:
            return read_synonyms(self.synonyms)
        return wordnet_synonyms() if self.synonym or self.insertion else {}


def augmented(
    text: str, rates: Mapping[str, float], synonyms: Synonyms, rng: np.random.Generator
) -> tuple[str, str, int]:
    """A changed text, the operation that changed it, and how many words it touched.

    :param rates: of each of `OPERATIONS`, 0 to 1.
    :return: the text itself, "" and 0 where no operation can change it.
    """
    words = text.split()
    known = [i for i, word in enumerate(words) if _bare(word)[1].lower() in synonyms]
    possible = {
        "synonym": bool(known),
        "insertion": bool(known),
        "swap": len(set(words)) > 1,
        "deletion": len(words) > 1,
    }
    chosen = [name for name in OPERATIONS if rates[name] > 0 and possible[name]]
    if not chosen:
        return text, "", 0
    operation = chosen[int(rng.integers(len(chosen)))]
    times = max(1, round(rates[operation] * len(words)))
    if operation == "deletion":
        times = min(times, len(words) - 1)
        gone = set(rng.permutation(len(words))[:times].tolist())
        words = [word for i, word in enumerate(words) if i not in gone]
    elif operation == "swap":
        for _ in range(times):
            one, other = rng.permutation(len(words))[:2].tolist()
            words[one], words[other] = words[other], words[one]
    else:
        times = min(times, len(known))
        places = sorted(rng.permutation(known)[:times].tolist())
        others = [_synonym(words[place], synonyms, rng) for place in places]
        for place, other in zip(places, others, strict=True):
            if operation == "synonym":
                words[place] = other
            else:
                words.insert(int(rng.integers(len(words) + 1)), _bare(other)[1])
    return " ".join(words), operation, times


def _synonym(word: str, synonyms: Synonyms, rng: np.random.Generator) -> str:
    """A synonym with the word's punctuation and capital."""
    before, bare, after = _bare(word)
    others = synonyms[bare.lower()]
    other = others[int(rng.integers(len(others)))]
    if bare[0].isupper():
        other = other[0].upper() + other[1:]
    return f"{before}{other}{after}"


def _bare(word: str) -> tuple[str, str, str]:
    """What stands before a word's first letter or digit, the word, and what stands behind."""
    start = next((i for i, c in enumerate(word) if c.isalnum()), len(word))
    end = next((i for i in range(len(word), start, -1) if word[i - 1].isalnum()), start)
    return word[:start], word[start:end], word[end:]
