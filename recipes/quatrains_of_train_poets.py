"""Regulated quatrains of the poets of the split `train`, far more than are bundled.

Read from the npm package chinese-poetry, as build_quatrains.py reads it: quatrains, and each half
of eight-line regulated verse (律詩), which is one by its rules. A poem stays if the halves keep
rhyme and tones, its characters are the tokenizer's, its poet's name is drawn into `train` and no
line of it stands in a bundled poem of another split.
"""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from build_quatrains import HAN, NO_POET, POETRY, fetch, is_regulated, split_of

from textgym.envs.tasks.quatrains import load_quatrains

_COUPLET = re.compile(f"{HAN}{{5}}，{HAN}{{5}}。|{HAN}{{7}}，{HAN}{{7}}。")


def quatrains_of_train_poets(archives: Path) -> list[str]:
    """Their texts, each once, in the order of the package; minutes.

    :param archives: directory of the package, which is fetched into it if it is missing.
    """
    bundled = load_quatrains()
    known = {character for poem in bundled if poem.split == "train" for character in poem.text}
    others = [poem for poem in bundled if poem.split != "train"]
    poets = {poem.author for poem in others}
    lines = {line for poem in others for line in _lines(poem.text)}
    found: dict[str, None] = {}
    for author, text in _poems(fetch(*POETRY, archives)):
        if not author or NO_POET.search(author) or split_of(author) != "train" or author in poets:
            continue
        found |= dict.fromkeys(
            half
            for half in _quatrains(text)
            if known.issuperset(half) and lines.isdisjoint(_lines(half)) and is_regulated(half)
        )
    return list(found)


def _quatrains(text: str) -> list[str]:
    """A poem of four lines, or the halves of one of eight; none of any other."""
    couplets = _COUPLET.findall(text)
    if "".join(couplets) != text or len(couplets) not in (2, 4) or len(set(map(len, couplets))) > 1:
        return []
    return ["".join(couplets[k : k + 2]) for k in range(0, len(couplets), 2)]


def _lines(text: str) -> list[str]:
    return re.findall(f"{HAN}+", text)


def _poems(archive: Path) -> Iterator[tuple[str, str]]:
    """Author and text of every poem of Tang and Song."""
    with tarfile.open(archive) as package:
        for member in package:
            if re.search(r"quantangshi/poet\.\w+\.\d+\.json$", member.name):
                stream = package.extractfile(member)
                assert stream is not None
                for poem in json.load(stream):
                    yield poem["author"].strip(), "".join(poem["paragraphs"])
