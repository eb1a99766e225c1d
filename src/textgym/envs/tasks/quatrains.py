"""The bundled regulated quatrains of Tang and Song, and the tasks made from them.

Sources, licences and the making of the splits: `envs/data/LICENSES.md` and `docs/data.md`. Four
splits, by poet: `train`, `judge`, `validation`, `test`. Traditional characters.
"""

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from textgym.errors import unknown_name
from textgym.tokenizer import Tokenizer

Form = Literal["wujue", "qijue"]
Split = Literal["train", "judge", "validation", "test"]
SYLLABLES: dict[Form, int] = {"wujue": 5, "qijue": 7}
HELD_OUT = 64


@dataclass(frozen=True)
class Quatrain:
    """One poem.

    :param text: four lines with their marks, "白日依山盡，黃河入海流。欲窮千里目，更上一層樓。".
    :param form: "wujue" (五絕, five characters a line) or "qijue" (七絕, seven).
    :param dynasty: "tang" or "song".
    """

    text: str
    title: str
    author: str
    dynasty: str
    form: Form
    split: Split

    @property
    def first_line(self) -> str:
        """With its mark: the prompt of the tasks."""
        return self.text[: SYLLABLES[self.form] + 1]


def load_quatrains(form: Form | None = None, split: Split | None = None) -> list[Quatrain]:
    """The poems of one form and split, or of all.

    :raises UnknownNameError: no such form or split.
    """
    if form is not None and form not in get_args(Form):
        raise unknown_name("form", form, get_args(Form))
    if split is not None and split not in get_args(Split):
        raise unknown_name("split", split, get_args(Split))
    return [q for q in _all_quatrains() if form in (None, q.form) and split in (None, q.split)]


def quatrain_texts(form: Form | None = None, split: Split | None = None) -> list[str]:
    """The texts of `load_quatrains(form, split)`: a corpus for `pretrain`."""
    return [quatrain.text for quatrain in load_quatrains(form, split)]


def heldout_first_lines(form: Form, split: Split, n: int) -> list[str]:
    """First lines of a split without training poems, of as many poets as can be.

    Always the same, all different, none the first line of a training poem, and every character is
    one of the tokenizer's.

    :param n: how many.
    """
    known = {character for text in quatrain_texts(split="train") for character in text}
    trained = {quatrain.first_line for quatrain in load_quatrains(form, "train")}
    by_poet: dict[str, list[str]] = {}
    for quatrain in sorted(load_quatrains(form, split), key=lambda q: _stable_hash(q.text)):
        line = quatrain.first_line
        if line not in trained and known.issuperset(line):
            by_poet.setdefault(quatrain.author, []).append(line)
    poets = sorted(by_poet.values(), key=lambda lines: _stable_hash(lines[0]))
    longest = max(map(len, poets), default=0)
    in_turn = (lines[k] for k in range(longest) for lines in poets if k < len(lines))
    return list(dict.fromkeys(in_turn))[:n]


@cache
def quatrain_tokenizer() -> Tokenizer:
    """One token a character of the training poems of both forms, bytes for any other."""
    return Tokenizer.character(quatrain_texts(split="train"))


def wujue() -> dict[str, Any]:
    """Go on with the first line of a five-character quatrain: form, rhyme and tones count."""
    return _task("wujue")


def qijue() -> dict[str, Any]:
    """Go on with the first line of a seven-character quatrain: form, rhyme and tones count."""
    return _task("qijue")


def _task(form: Form) -> dict[str, Any]:
    syllables = SYLLABLES[form]
    lines = [quatrain.first_line for quatrain in load_quatrains(form, "train")]
    return {
        "prompts": list(dict.fromkeys(lines)),
        "heldout_prompts": heldout_first_lines(form, "validation", HELD_OUT),
        "reward": f"quatrain,syllables={syllables},include_prompt=true",
        "tokenizer": quatrain_tokenizer(),
        "max_new_tokens": 3 * (syllables + 1) + 1,  # three lines with their marks, and the end
    }


@cache
def _all_quatrains() -> tuple[Quatrain, ...]:
    return tuple(Quatrain(**row) for row in _rows())


def _rows() -> Iterator[dict[str, Any]]:
    packed = (resources.files("textgym.envs") / "data" / "quatrains.jsonl.gz").read_bytes()
    return map(json.loads, gzip.decompress(packed).decode("utf-8").splitlines())


def _stable_hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
