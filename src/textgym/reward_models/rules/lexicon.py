"""Sentiment from a word list: the `lexicon` reward, in (-1, 1).

The word list is VADER's (Hutto & Gilbert 2014, "VADER: A Parsimonious Rule-based Model for
Sentiment Analysis of Social Media Text", MIT licence, `data/vader_lexicon.txt.gz`): some 7,500
words and emoticons with the mean valence that ten people gave them, -4 to 4. The scorer is our own
and keeps that paper's main rules; its constants are theirs. Any file of the same shape works, for
languages that put spaces between words.
"""

import gzip
import re
import zlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from textgym.errors import InputError
from textgym.paths import expand
from textgym.reward_models.rules.columns import texts_to_score
from textgym.storage import MAX_BYTES, require_regular_file
from textgym.text_metrics.words import marks, normal_form

BOOST = 0.293  # a booster before a word adds this much valence
CAPITALS = 0.733  # a word in capitals among others that are not
NEGATION = -0.74  # a negated valence is turned round and made weaker
FADING = (1.0, 0.95, 0.9)  # a booster one, two, three words before
EXCLAMATION, MOST_EXCLAMATIONS = 0.292, 4
BEFORE_BUT, AFTER_BUT = 0.5, 1.5  # what stands after "but" weighs more
ALPHA = 15.0  # compound = s / sqrt(s² + ALPHA)

NEGATIONS = frozenset(
    """aint ain't arent aren't cannot cant can't couldnt couldn't darent daren't didnt didn't doesnt
    doesn't dont don't hadnt hadn't hasnt hasn't havent haven't isnt isn't mightnt mustnt neither
    never no nobody none nope nor not nothing nowhere rarely seldom shant shouldnt shouldn't wasnt
    wasn't werent weren't without wont won't wouldnt wouldn't hardly scarcely despite""".split()
)
INTENSIFIERS = frozenset(
    """absolutely amazingly awfully completely considerably decidedly deeply enormously entirely
    especially exceptionally extremely fabulously fully greatly highly hugely incredibly intensely
    most particularly perfectly purely quite really remarkably so strikingly substantially
    thoroughly totally tremendously truly unbelievably unusually utterly very wholly""".split()
)
DAMPENERS = frozenset(
    """almost barely fairly kinda less little marginally mildly occasionally partly rather
    slightly somewhat sorta""".split()
)


def read_lexicon(path: str | Path) -> dict[str, float]:
    """A word list from a file: one `token<TAB>valence` a line, plain or .gz, UTF-8.

    Further columns are ignored, and so are empty lines and lines that start with "# ".

    :raises InputError: naming file and line for a line of another shape, or if the file is missing
        or holds no word.
    """
    path = expand(path)
    try:
        require_regular_file(path)
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, InputError) as error:
        raise InputError(f"cannot read the lexicon {path}: {error}") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"cannot read the lexicon {path}: over {MAX_BYTES:,} bytes are no words")
    return _parse(text, str(path))


def _parse(text: str, source: str) -> dict[str, float]:
    words: dict[str, float] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("# "):
            continue
        fields = line.rstrip("\r").split("\t")
        try:
            valence = float(fields[1])
        except (IndexError, ValueError):
            valence = float("nan")
        if not abs(valence) < float("inf") or not fields[0]:
            raise InputError(
                f"{source}, line {number}: expected token<TAB>valence, got {line[:40]!r}: "
                "give each word a finite number"
            )
        words[normal_form(fields[0])] = valence
    if not words:
        raise InputError(f"{source} holds no word: give one token<TAB>valence a line")
    return words


@lru_cache(maxsize=1)
def bundled_lexicon() -> Mapping[str, float]:
    """VADER's word list as it comes with textgym; read once."""
    resource = files("textgym.reward_models").joinpath("data/vader_lexicon.txt.gz")
    return _parse(gzip.decompress(resource.read_bytes()).decode(), resource.name)


@cache
def _edges() -> re.Pattern[str]:
    """What is no letter, digit or combining mark, at the two ends of a token."""
    other = rf"[^\w{marks()}]+"
    return re.compile(f"^{other}|{other}$")


class Lexicon:
    """How positive a completion sounds by its words, in (-1, 1).

    Each word with a valence counts it, raised by boosters among the three words before ("very"),
    lowered by dampeners ("slightly"), turned by a negation there ("not"), raised by capitals. What
    stands before a "but" counts half, after it one and a half times. Exclamation marks raise the
    sum's size. With the sum s the score is s / sqrt(s² + 15).

    :param path: an own word list (see `read_lexicon`); default: VADER's.
    :param include_prompt: score prompt and completion together instead of the completion alone.
    :raises InputError: if the file is not a word list.
    """

    name = "lexicon"

    def __init__(self, path: str | Path | None = None, *, include_prompt: bool = False) -> None:
        self.words = bundled_lexicon() if path is None else read_lexicon(path)
        self.include_prompt = include_prompt

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in (-1, 1) per completion."""
        texts = texts_to_score(self.name, prompts, completions, self.include_prompt)
        return [self.score(text) for text in texts]

    def score(self, text: str) -> float:
        """The compound score of one text; 0 if it holds no word of the list."""
        tokens = text.replace("’", "'").split()
        stripped = [_edges().sub("", token) for token in tokens]
        lowered = [normal_form(word) for word in stripped]
        letters = [word for word in stripped if word.lower() != word.upper()]
        is_mixed = any(word.isupper() for word in letters) and not all(
            word.isupper() for word in letters
        )
        valences = [
            self._valence(k, tokens, stripped, lowered, is_mixed) for k in range(len(tokens))
        ]
        if "but" in lowered:
            turn = lowered.index("but")
            valences = [
                v * (BEFORE_BUT if k < turn else AFTER_BUT if k > turn else 1.0)
                for k, v in enumerate(valences)
            ]
        total = sum(valences)
        emphasis = EXCLAMATION * min(text.count("!"), MOST_EXCLAMATIONS)
        total += emphasis if total > 0 else -emphasis if total < 0 else 0.0
        return float(total / (total * total + ALPHA) ** 0.5)

    def _valence(
        self, k: int, tokens: list[str], stripped: list[str], lowered: list[str], is_mixed: bool
    ) -> float:
        """Valence of token `k` among its neighbours; 0 for a word without one."""
        valence = self.words.get(lowered[k]) or self.words.get(normal_form(tokens[k]), 0.0)
        if valence == 0.0 or lowered[k] in INTENSIFIERS or lowered[k] in DAMPENERS:
            return 0.0
        sign = 1.0 if valence > 0 else -1.0
        if is_mixed and len(stripped[k]) > 1 and stripped[k].isupper():
            valence += sign * CAPITALS
        is_negated = False
        for distance, fading in enumerate(FADING, start=1):
            if k - distance < 0:
                break
            before = lowered[k - distance]
            if before in INTENSIFIERS:
                valence += sign * BOOST * fading
            elif before in DAMPENERS:
                valence -= sign * BOOST * fading
            is_negated |= before in NEGATIONS
        return valence * NEGATION if is_negated else valence
