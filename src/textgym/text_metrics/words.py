"""How the reward models and metrics cut a text into words.

One rule for every language: a run of letters or digits is a word, with the combining marks on them
(vowel signs, accents, niqqud, harakat) and the apostrophes inside it; each character of a script
written without spaces (Chinese, Japanese, Thai, ...) is a word of its own, again with its marks.
Word counts, n-grams and repetition therefore mean something in Hindi and Chinese too. A text gives
the same words however Unicode spells it (NFC or NFD); invisible characters change no word.
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

# Scripts written without spaces: Thai, Lao, Myanmar, Khmer, kana, CJK ideographs and extensions.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # fmt: skip # noqa: E501
# Soft hyphens, and the selectors that choose a glyph: part of no word.
_INVISIBLE = re.compile("[\u00ad\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_JOINERS = "\u200c\u200d"  # inside a word of Persian or Hindi they choose the letters' shapes
_MARK_PLANES = range(0x300, 0x20000)  # the only marks beyond are the invisible selectors

# Function words: a bigram made of these alone says nothing about what a text talks of.
FUNCTION_WORDS = frozenset(
    """a about after all also an and any are as at be been before being but by can could did do does
    doing don't down each either else even ever every few for from had has have having he her here
    hers him his how i if in into is isn't it it's its itself just like may me might more most much
    must my no nor not of off on once one only or other our out over own rather really same she
    should so some such than that that's the their them then there there's these they this those
    through to too under until up upon us very was wasn't we were what when where which while who
    whom whose why will with without would yet you your yours s t d ll re ve m
    的 了 是 在 和 也 都 就 不 有 我 你 他 她 它 们 这 那
    一 个 地 得 着 过 与 及 或 而 但 很 又 还 吗 呢 吧 啊""".split()
)


def normal_form(text: str) -> str:
    """The text in lower case, composed (NFC), with one apostrophe, without invisible characters."""
    if text.isascii():
        return text.lower()
    visible = _INVISIBLE.sub("", text.lower())
    return unicodedata.normalize("NFC", visible).replace("’", "'").replace("＇", "'")


def split_words(text: str) -> list[str]:
    """The words of a text in lower case; punctuation, symbols and spaces are no words.

    >>> split_words("Don't blink: 好看!")
    ["don't", 'blink', '好', '看']
    """
    return _word_pattern().findall(normal_form(text))


def is_unspaced(character: str) -> bool:
    """Whether a character is of a script that is written without spaces between words."""
    return _unspaced_pattern().match(character) is not None


@cache
def _unspaced_pattern() -> re.Pattern[str]:
    return re.compile(f"[{_UNSPACED}]")


def word_pieces(text: str) -> list[str]:
    """The text cut before and behind each word: words, and what stands between, as written.

    Laid end to end, the pieces are the text again.

    >>> word_pieces("Don't blink: 好看!")
    ["Don't", ' ', 'blink', ': ', '好', '看', '!']
    """
    pieces, end = [], 0
    for match in _word_pattern().finditer(text):
        if match.start() > end:
            pieces.append(text[end : match.start()])
        pieces.append(match[0])
        end = match.end()
    return [*pieces, text[end:]] if end < len(text) else pieces


@cache
def marks() -> str:
    """The combining marks that belong to a letter, as the inside of a class of `re`."""
    codes = [c for c in _MARK_PLANES if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    starts = [c for c in codes if unicodedata.category(chr(c - 1)) not in ("Mn", "Mc")]
    ends = [c for c in codes if unicodedata.category(chr(c + 1)) not in ("Mn", "Mc")]
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(starts, ends, strict=True))


@cache
def _word_pattern() -> re.Pattern[str]:
    letter = rf"[^\W_{_UNSPACED}][{marks()}{_JOINERS}]*"
    return re.compile(rf"(?=\w)[{_UNSPACED}][{marks()}]*|(?:{letter})+(?:['’＇](?:{letter})+)*")


def count_words(text: str) -> int:
    """Number of words of a text, see `split_words`."""
    return len(split_words(text))


def count_characters(text: str) -> int:
    """Number of characters as a reader counts them: a letter's combining marks are part of it."""
    if text.isascii():
        return len(text)
    composed = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return sum(unicodedata.category(c)[0] != "M" for c in composed)


def word_ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """All runs of `n` neighbouring words, in order; empty if there are fewer than `n`."""
    return (
        list(zip(*(words[k:] for k in range(n)), strict=False)) if n > 1 else [(w,) for w in words]
    )


def contains_phrase(words: Sequence[str], phrase: Sequence[str]) -> bool:
    """Whether `phrase` stands in `words` as a run of neighbouring words."""
    n = len(phrase)
    return any(list(words[k : k + n]) == list(phrase) for k in range(len(words) - n + 1))
