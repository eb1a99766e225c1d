"""The n-gram reader: hand-computed bits, a distribution that sums to one, order that matters."""

import math
import random
import unicodedata

import pytest

from textgym.errors import InputError
from textgym.reward_models.learned.ngram_reader import NgramReader


def spelled(letters, unit):
    """Reference: the letters' Witten-Bell mixture, written out from the definition."""
    counts = {}
    for known in letters:
        known += "\0"
        for place, symbol in enumerate(known):
            for length in range(min(5, place) + 1):
                counts.setdefault(known[place - length : place], []).append(symbol)
    chance, unit = 1.0, unit + "\0"
    for place, symbol in enumerate(unit):
        mixed = 1 / 0x110000
        for length in range(min(5, place) + 1):
            seen = counts.get(unit[place - length : place])
            if seen is None:
                break
            kinds = len(set(seen))
            mixed = (seen.count(symbol) + kinds * mixed) / (len(seen) + kinds)
        chance *= mixed
    return chance


def test_bits_are_those_of_the_formula():
    """Two texts, "a b" and "a c": P( b after a) by hand, on top of the spelling of " b"."""
    reader = NgramReader(["a b", "a c"], order=2)
    units = ["a", " b", "a", " c"]
    alone = (1 + 3 * spelled(units, " b")) / (4 + 3)  # 3 kinds among 4 units
    after_a = (1 + 2 * alone) / (2 + 2)  # " b" and " c" came after "a"
    assert reader.bits(["a"], [" b"])[0] == pytest.approx(-math.log2(after_a))
    unknown = 2 / 4 * 3 / 7 * spelled(units, " z")
    assert reader.bits(["a"], [" z"])[0] == pytest.approx(-math.log2(unknown))
    first = (2 + 3 * spelled(units, "a")) / 7
    both = reader.bits([""], ["a b"])[0]
    assert both == pytest.approx(-math.log2(first) - math.log2(after_a))


def test_what_follows_has_probability_one_in_all():
    reader = NgramReader(["ab ab. ba!", "a b"], order=3, letters=3)
    known = ["ab", " ab", ".", " ba", "!", "a", " b", " a", "ba", "b"]
    share = sum(2.0 ** -reader.bits(["ab ab"], [unit])[0] for unit in known)
    assert 0.5 < share < 1.0
    letters = "ab .!"
    spelled_out = [a + b + c for a in letters for b in letters for c in letters]
    every = {unit for unit in [*known, *spelled_out] if len(reader_units(unit)) == 1}
    assert share < sum(2.0 ** -reader.bits(["ab ab"], [unit])[0] for unit in every) < 1.0


def reader_units(text):
    from textgym.reward_models.learned import ngram_reader

    return ngram_reader._unit().findall("ab ab" + text)[2:]


def test_shuffled_words_are_more_surprising_and_nothing_costs_nothing():
    sentence = "the cat sat on the mat and the dog lay by the door of the old house"
    reader = NgramReader([sentence] * 3 + ["a dog and a cat sat by the door"])
    words = sentence.split()
    random.Random(0).shuffle(words)
    plain, shuffled = reader.bits(["", ""], [sentence, " ".join(words)])
    assert shuffled > 1.5 * plain
    assert reader.bits(["the cat"], [""])[0] == 0.0
    assert math.isfinite(reader.bits([""], ["\u4e2d" * 200])[0])


def test_a_unit_that_ends_in_the_completion_is_the_completions():
    reader = NgramReader(["the film works", "the films work"])
    assert reader.bits(["the film"], ["s"])[0] == pytest.approx(reader.bits(["the"], [" films"])[0])


def test_a_reader_of_nothing_is_refused():
    with pytest.raises(InputError, match="a reader needs texts"):
        NgramReader([""])
    with pytest.raises(InputError, match="order=0"):
        NgramReader(["a"], order=0)


def test_marks_belong_to_their_words_in_either_normal_form():
    """A vowel sign is no unit of its own, and "é" is one letter however it is spelled."""
    assert reader_units(" नमस्ते दुनिया!") == [" नमस्ते", " दुनिया", "!"]
    assert reader_units(" สวัสดี 1\ufe0f ⚠\ufe0f") == [" สวัสดี", " 1\ufe0f", " ⚠\ufe0f"]
    texts = ["un été à Paris", "un café à Nice"]
    reader = NgramReader(texts)
    for prompt, text in (("un ", "été"), ("un ét", "é à Nice"), ("", "thé")):
        apart = [unicodedata.normalize("NFD", part) for part in (prompt, text)]
        assert reader.bits([apart[0]], [apart[1]]) == reader.bits([prompt], [text])
