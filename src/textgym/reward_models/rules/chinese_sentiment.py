"""Sentiment of Chinese texts from a word list: the `chinese_sentiment` reward, in (-1, 1).

Chinese puts no spaces between words, so that the list itself cuts the text: at each place the
longest word of the list that begins there is taken. Negations and adverbs of degree just before a
word turn it or make it stronger, as in `lexicon` for English.

textgym's own list has some 700 words of reviews and everyday speech in simplified characters. A
larger one helps: any file with `word<TAB>valence` lines, such as the sentiment words of JioNLP.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from textgym.reward_models.rules.columns import check_texts
from textgym.reward_models.rules.lexicon import (
    AFTER_BUT,
    ALPHA,
    BEFORE_BUT,
    EXCLAMATION,
    MOST_EXCLAMATIONS,
    NEGATION,
    read_lexicon,
)
from textgym.text_metrics.words import normal_form

REACH = 4  # characters before a word in which a negation or an adverb is looked for

# Not those of 不但, 不过, 非常, 特别, 别人, 未来, 无比, …
_NEGATIONS = re.compile(
    "不(?![但仅管论过断同])|没|无(?![比论])|非(?!常)|未(?!来)|(?<![特分区])别(?![人的致])|勿|难以"
)
_STRONG = re.compile("很|太|非常|十分|特别|极|超|真|最|相当|挺|尤其|格外|更|好好|完全|实在|无比")
_WEAK = re.compile("有点|有些|稍|略|比较|还算|不太|不怎么|不是很|不大|一点")
_CLAUSE = re.compile('[，。！？；：、…,.!?;:\\s（）()“”"]')
_BUT = re.compile("但是|但|不过|可是|然而|却|只是|可惜")
STRONGER, WEAKER = 1.5, 0.6


@lru_cache(maxsize=1)
def bundled_chinese_lexicon() -> Mapping[str, float]:
    """textgym's own list; read once."""
    resource = files("textgym.reward_models").joinpath("data/chinese_sentiment.txt")
    with as_file(resource) as path:
        return read_lexicon(path)


class ChineseSentiment:
    """How positive a Chinese completion sounds by its words, in (-1, 1).

    Each word of the list counts its valence; among the four characters before it in its clause, a
    negation ("不", "没有") turns it, × -.74, and adverbs of degree make it stronger ("非常", × 1.5)
    or weaker ("有点", × .6). What stands before the first "但", "不过", … counts half, after it one
    and a half times. Exclamation marks raise the sum's size. With the sum s the score is
    s / sqrt(s² + 15), as VADER's. A text without a word of the list gets 0.

    :param path: an own word list, `word<TAB>valence` lines (`read_lexicon`); a word of valence 0
        keeps shorter ones inside it from counting. Default: textgym's own.
    :raises InputError: if the file is not a word list.
    """

    name = "chinese_sentiment"

    def __init__(self, path: str | Path | None = None) -> None:
        self.words = bundled_chinese_lexicon() if path is None else read_lexicon(path)
        self._longest = max(map(len, self.words))

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in (-1, 1) per completion."""
        check_texts(self.name, prompts, completions)
        return [self.score(text) for text in completions]

    def score(self, text: str) -> float:
        """The score of one text."""
        text = normal_form(text)
        turn = _BUT.search(text)
        total, before = 0.0, 0
        for start, end in self._found(text):
            valence = self.words[text[start:end]]
            if valence:
                valence *= self._factor(text[max(before, start - REACH) : start])
                if turn is not None:
                    valence *= BEFORE_BUT if start < turn.start() else AFTER_BUT
                total += valence
            before = end
        emphasis = EXCLAMATION * min(text.count("!") + text.count("！"), MOST_EXCLAMATIONS)
        total += emphasis if total > 0 else -emphasis if total < 0 else 0.0
        return float(total / (total * total + ALPHA) ** 0.5)

    def _found(self, text: str) -> list[tuple[int, int]]:
        """Where words of the list stand, the longest first at each place, without overlap."""
        places, start = [], 0
        while start < len(text):
            for end in range(min(len(text), start + self._longest), start, -1):
                if text[start:end] in self.words:
                    places.append((start, end))
                    break
            else:
                end = start + 1
            start = end
        return places

    @staticmethod
    def _factor(before: str) -> float:
        """What the characters before a word make of its valence."""
        clause = _CLAUSE.split(before)[-1]
        weak = _WEAK.search(clause)
        factor = WEAKER if weak else STRONGER if _STRONG.search(clause) else 1.0
        is_negated = len(_NEGATIONS.findall(clause)) % 2 == 1
        return factor * NEGATION if is_negated else factor
