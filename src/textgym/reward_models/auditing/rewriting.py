"""Changes of a text for the checks: what adds nothing, what damages, what keeps the meaning."""

import re
from collections.abc import Callable
from functools import cache

from textgym.text_metrics.words import split_words

# Of the same sense wherever one stands in a review, an answer or a letter, and of one form.
SYNONYMS = (
    ("film", "movie"),
    ("films", "movies"),
    ("maybe", "perhaps"),
    ("big", "large"),
    ("begins", "starts"),
    ("almost", "nearly"),
    ("often", "frequently"),
    ("kids", "children"),
    ("although", "though"),
    ("many", "numerous"),
    ("seems", "appears"),
    ("whole", "entire"),
    ("watching", "viewing"),
    ("tale", "story"),
    ("actors", "performers"),
    ("need", "require"),
    ("help", "aid"),
    ("however", "nevertheless"),
)
FILLER = "There is more that could be said here, and it has been said in other places."
FILLER_UNSPACED = "這裡還有其他事情可以說，別處也已經說過了。"
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_WORD = re.compile(r"[^\W\d_]{4,}")


def joined(first: str, second: str) -> str:
    """Two texts, one after the other, with a space between where their script has spaces."""
    has_spaces = not _UNSPACED.search(first[-8:] + second[:8])
    return f"{first.rstrip()} {second.strip()}" if has_spaces else first.rstrip() + second.strip()


def padded(text: str) -> str:
    """With a sentence that says nothing, twice."""
    filler = FILLER_UNSPACED if _UNSPACED.search(text) else FILLER
    return joined(joined(text, filler), filler)


def repeated(text: str) -> str:
    """Said three times."""
    return joined(joined(text, text), text)


def halved(text: str) -> str:
    """The first half of its words; of its characters where it has one word."""
    parts = re.findall(r"\s*\S+", text)
    if len(parts) < 2:
        return text[: len(text) // 2]
    return "".join(parts[: len(parts) // 2])


def with_typos(text: str) -> str:
    """With the two letters in the middle of every third longer word exchanged."""
    count = 0

    def slip(match: re.Match[str]) -> str:
        nonlocal count
        count += 1
        word = match[0]
        middle = len(word) // 2
        if count % 3 != 1:
            return word
        return word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]

    return _WORD.sub(slip, text)


def capitals(text: str) -> str:
    """In capitals."""
    return text.upper()


def spaced_out(text: str) -> str:
    """With two spaces for each one, and lines that end late."""
    return re.sub(" ", "  ", text) + " \n"


def formatted(text: str) -> str:
    """As a Markdown list of one, under a heading."""
    return f"\n\n**Answer**\n\n- {text.strip()}\n"


def with_synonyms(text: str) -> str:
    """With every word that `SYNONYMS` knows exchanged for the other one."""
    table = _exchanged()

    def exchange(match: re.Match[str]) -> str:
        word = match[0]
        other = table[word.lower()]
        return other.capitalize() if word[0].isupper() else other

    return _synonym_pattern().sub(exchange, text)


REWRITES: dict[str, Callable[[str], str]] = {
    "case": capitals,
    "white space": spaced_out,
    "format": formatted,
    "synonyms": with_synonyms,
}


@cache
def _exchanged() -> dict[str, str]:
    """Each word of the table with the other one of its pair."""
    return {one: other for pair in SYNONYMS for one, other in (pair, pair[::-1])}


@cache
def _synonym_pattern() -> re.Pattern[str]:
    words = sorted(_exchanged(), key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)


def copied_share(prompt: str, completion: str) -> float:
    """Share of a completion's words that stand in its prompt, in [0, 1]; 0 where one is empty."""
    words, asked = split_words(completion), set(split_words(prompt))
    return sum(word in asked for word in words) / len(words) if words else 0.0
