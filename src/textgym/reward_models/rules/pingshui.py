"""The Pingshui rhymes (平水韻): which of the 106 rhymes of classical verse a character belongs to.

A rhyme's first character or two say its tone: 上平聲 and 下平聲 are level (平), 上聲, 去聲 and 入聲
oblique (仄). A character read in several ways belongs to several rhymes. Whose table it is:
`reward_models/data/LICENSES.md`.
"""

import gzip
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

LEVEL_TONE = "平聲"  # in the names of the thirty level rhymes


class Readings(NamedTuple):
    """How a character may be read.

    :param level: its level rhymes, such as {"下平聲十一尤"}; empty where it is never level.
    :param is_oblique: whether it has an oblique reading.
    """

    level: frozenset[str]
    is_oblique: bool


NO_READINGS = Readings(frozenset(), False)


@lru_cache(maxsize=1)
def pingshui_readings() -> Mapping[str, Readings]:
    """Character → readings, traditional and simplified ones and variants; read once.

    A simplified character has the readings of all that it stands for, unless it is an old one
    itself (云, 里), which keeps its own.
    """
    level: dict[str, set[str]] = {}
    oblique: set[str] = set()
    packed = resources.files("textgym.reward_models").joinpath("data/pingshui.txt.gz").read_bytes()
    for line in gzip.decompress(packed).decode("utf-8").splitlines():
        rhyme, _, characters = line.partition("\t")
        if LEVEL_TONE in rhyme:
            for character in characters:
                level.setdefault(character, set()).add(rhyme)
        else:
            oblique.update(characters)
    return {
        character: Readings(frozenset(level.get(character, ())), character in oblique)
        for character in oblique | set(level)
    }


def readings(character: str) -> Readings:
    """The readings of one character; none for one that is not in the table."""
    return pingshui_readings().get(character, NO_READINGS)
