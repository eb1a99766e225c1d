"""Syllables and endings of words: from a pronouncing dictionary, or from the spelling of English.

A dictionary is a file as CMUdict has it: a word, spaces, and its phones, "moonlight M UW1 N L AY2
T". A phone that ends in a digit (its stress) is a vowel, and so is one of ARPAbet's vowels without
a digit. Pinyin written so ("光 g uang1") works alike. What it does not hold, and everything without
one, goes by rules for English spelling; a character of a script without spaces is one syllable.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from textgym.errors import InputError
from textgym.paths import expand
from textgym.storage import read_small_file

Phones = tuple[str, ...]

_ARPABET_VOWELS = frozenset("AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split())
_WEAK = frozenset(("AH", "ER", "IH", "IY"))  # the vowels of last syllables without stress
_VOWELS = re.compile("[aeiouy]+")
_LATIN = re.compile("[a-z]")
# Two vowels that are two syllables: "violent", "serious", "audience", "create", "poem", "annual".
_APART = re.compile(
    "(?<![ct])i(?:a(?!n$|ge|r$)|en[ct])|i(?:et|o(?!us|n|r$|rs$)|u(?!m?s$))|(?<![ctgx])iou|"
    "eo(?!us|n$|p)|(?<![aeiouqg])ua[lt]|oe[tm]|yi|[aeiou]ing|ea(?:te|ti|tor|li)|deas?$"
)
_SILENT_E = re.compile("[^aeiouyl]e$|[aeiouyr]le$")
_SILENT_ED = re.compile("[^aeiouytdl]ed$|[aeiouy]l?led$(?<![aeiou]ed)")
_SILENT_ES = re.compile("(?:[^aeiouycgsxzl]|[aeiouy]l)(?<![csti]h)es$")
_SILENT_MIDDLE = re.compile("e(?=(?:ly|ment|ful|less|ness|some)(?:s|ly)?$)|(?<=^som)e")
# Last syllables without stress: a rhyme begins before them.
_WEAK_END = re.compile(
    "(?:e[rdnls]|ers|[aeiou]?ing|l?y|le|i?on|i?ous|al|or|an|i?c|ed|es|ment|ness)$"
)


def count_syllables(word: str, pronunciations: Mapping[str, Phones] | None = None) -> int:
    """Syllables of one word in lower case, at least 1; of English, right for some nine in ten.

    :param pronunciations: of `read_pronunciations`.
    """
    phones = pronunciations.get(word) if pronunciations else None
    if phones is not None:
        return max(1, sum(map(_is_vowel, phones)))
    return _by_spelling(word)


@lru_cache(maxsize=65536)
def _by_spelling(word: str) -> int:
    letters = word.replace("'s", "").replace("'", "")
    if not _LATIN.search(letters):
        return max(1, sum(char.isdigit() for char in letters))
    count = len(_VOWELS.findall(letters)) + len(_APART.findall(letters))
    if _SILENT_E.search(letters) or _SILENT_ED.search(letters) or _SILENT_ES.search(letters):
        count -= 1
    count -= len(_SILENT_MIDDLE.findall(letters))
    if letters.endswith(("sm", "thm")):
        count += 1
    return max(1, count)


def rhyme_part(word: str, pronunciations: Mapping[str, Phones] | None = None) -> str:
    """What two rhyming words have in common: from the last stressed vowel on.

    :param word: in lower case.
    :param pronunciations: of `read_pronunciations`. Without the word in it, the spelling from the
        vowel that is likely stressed stands in: over half of what it calls a rhyme is one, and it
        finds over half of those there are (benchmarks/results/rule_accuracy.md).
    :returns: phones without their stress, or letters; "" for a word without a vowel.
    """
    phones = pronunciations.get(word) if pronunciations else None
    if phones is None:
        return _spelled_end(word)
    vowels = [place for place, phone in enumerate(phones) if _is_vowel(phone)]
    stressed = [place for place in vowels if phones[place][-1] in "12"]
    if not stressed and len(vowels) > 1 and phones[vowels[-1]] in _WEAK:
        vowels.pop()
    start = (stressed or vowels or [len(phones)])[-1]
    return " ".join(phone.rstrip("0123456789") for phone in phones[start:])


def _is_vowel(phone: str) -> bool:
    return phone[-1].isdigit() or phone in _ARPABET_VOWELS


@lru_cache(maxsize=65536)
def _spelled_end(word: str) -> str:
    letters = word.replace("'", "")
    if not _LATIN.search(letters):
        return letters[-1:]
    if letters.endswith("e") and _VOWELS.search(letters[:-2]):
        letters = letters[:-1]
    groups = [match.start() for match in _VOWELS.finditer(letters)]
    weak = _WEAK_END.search(letters)
    before = [start for start in groups if weak is not None and start < weak.start()]
    return letters[(before or groups or [len(letters)])[-1] :]


def read_pronunciations(path: str | Path) -> dict[str, Phones]:
    """A pronouncing dictionary from a file in the format of CMUdict.

    Of several pronunciations of a word ("read(2)") the first is kept; lines that start with ";;;"
    or "#" are comments.

    :raises InputError: if it cannot be read, or a line holds no word with a vowel among its phones
        (a tenth of such lines is borne: abbreviations have none).
    """
    path = expand(path)
    try:
        text = read_small_file(path)
    except InputError as error:
        raise InputError(f"cannot read the dictionary: {error}") from None
    return _parse(text.removeprefix("\ufeff"), path)


def _parse(text: str, path: Path) -> dict[str, Phones]:
    found: dict[str, Phones] = {}
    without: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        word, *phones = line.split("#")[0].split() or [""]
        if not word or line.startswith(";;;"):
            continue
        if not any(map(_is_vowel, phones)):
            without.append(number)
        elif not word.endswith(")"):
            found.setdefault(word.lower(), tuple(phones))
    if not found or len(without) > len(found) / 10:
        line = f", line {without[0]}" if without else ""
        raise InputError(
            f"{path}{line}: expected a word and its phones, as in 'moon M UW1 N' (CMUdict)"
        )
    return found
