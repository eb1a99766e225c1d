"""Regular expressions as automata over bytes, against Python's own `re`."""

import itertools
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from textgym.constraints.byte_automaton import DEAD, compile_regex
from textgym.errors import InputError

# At most four letters, so from each point of a match four more and a few are enough to end it.
PATTERNS = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "."]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"(?:{pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{1,2}", "*?", "+?", "{0}"])).map(
            lambda pair: f"(?:{pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=4,
)
TEXTS = ["".join(letters) for n in range(9) for letters in itertools.product("ab", repeat=n)]


def reached(automaton, text):
    state = automaton.start
    for byte in text.encode():
        state = int(automaton.table[state, byte])
    return state


@settings(max_examples=60, deadline=None)
@given(PATTERNS)
def test_it_accepts_what_fullmatch_does_and_goes_on_exactly_where_a_match_is_left(pattern):
    automaton = compile_regex(pattern)
    matching = [text for text in TEXTS if re.fullmatch(pattern, text)]
    prefixes = {text[:n] for text in matching for n in range(len(text) + 1)}
    for text in TEXTS:
        assert automaton.matches(text.encode()) == (text in set(matching))
        if len(text) <= 3:
            assert (reached(automaton, text) != DEAD) == (text in prefixes)


@pytest.mark.parametrize(
    ("pattern", "texts"),
    [
        ("a|ab", ["a", "ab"]),  # the order of alternatives puts nothing out
        ("(?:ab)*", ["", "ab", "abab"]),  # a full match may still go on
        ("a+?", ["a", "aa"]),
        ("^(?:ab?)$", ["a", "ab"]),
        ("", [""]),
        (r"\Aa\Z", ["a"]),
        ("(?x) a  b # spaces", ["ab"]),
        ("(?s:.)(?P<name>a)", ["\na", "ba"]),
        ("[^\\s\\S]|b", ["b"]),
    ],
)
def test_by_hand(pattern, texts):
    automaton = compile_regex(pattern)
    for text in texts:
        assert automaton.matches(text.encode()), text
        assert re.fullmatch(pattern, text)
    assert not automaton.matches(b"abb") and not automaton.matches(b"c")


@pytest.mark.parametrize(
    "pattern", [r"\w*", r"[^\W\d]+.?", r"\s?\S*", "[一-龥]+", r"(?s:.){2}", r"(?a:\w)*\D"]
)
def test_any_text_of_unicode(pattern):
    automaton = compile_regex(pattern)

    @settings(max_examples=60, deadline=None)
    @given(st.text(max_size=4))
    def check(text):
        assert automaton.matches(text.encode()) == bool(re.fullmatch(pattern, text))

    check()


@pytest.mark.parametrize("pattern", [r"\w", r"\s", r"\D", r"(?a:\s)", r"(?a:\W)", ".", '[^"\\\\]'])
def test_sets_of_characters_hold_what_re_says(pattern):
    automaton, expression = compile_regex(pattern), re.compile(pattern)
    rng = random.Random(0)
    points = [*range(0x3000), *(rng.randrange(0x3000, 0x110000) for _ in range(5000))]
    points += [0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
    for point in points:
        if not 0xD800 <= point <= 0xDFFF:
            is_in = automaton.matches(chr(point).encode())
            assert is_in == bool(expression.fullmatch(chr(point))), hex(point)
    for broken in (b"\x80", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe4\xb8"):
        assert not automaton.matches(broken)


def test_ascii_is_a_switch():
    assert compile_regex(r"\d", is_ascii=True).matches(b"7")
    assert not compile_regex(r"\d", is_ascii=True).matches("٧".encode())
    assert compile_regex(r"\d").matches("٧".encode())


def test_a_language_without_texts_begins_dead():
    automaton = compile_regex(r"a[^\s\S]")
    assert automaton.start == DEAD and automaton.table.shape == (1, 256)


def test_from_every_state_a_match_can_be_reached_and_the_dead_one_leads_nowhere():
    automaton = compile_regex(r"(?:x[^\s\S]|ab|a{3}c?)+")
    assert not automaton.table[DEAD].any() and not automaton.is_final[DEAD]
    is_alive = automaton.is_final.copy()
    for _ in range(len(is_alive)):
        is_alive |= is_alive[automaton.table].any(1)
    assert is_alive[1:].all() and not np.any(automaton.table[automaton.start, ord("x")])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", r"not a regular expression: '\(' \(missing \), unterminated"),
        ("(?=a)b", "assert is not supported"),
        (r"(a)\1", "groupref is not supported"),
        (r"a\b", "an anchor inside"),
        ("a^b", "an anchor inside"),
        ("(?>a)b", "atomic group is not supported"),
        ("a*+", "possessive repeat is not supported"),
        ("(?i)a", r"write \[Aa\] for \(\?i\)a"),
        (7, "a regular expression is a text, got int"),
    ],
)
def test_what_cannot_be_is_one_clear_line(pattern, message):
    with pytest.raises(InputError, match=message) as caught:
        compile_regex(pattern)
    assert "\n" not in str(caught.value)


def test_what_is_too_large_is_said_so(monkeypatch):
    monkeypatch.setattr("textgym.constraints.byte_automaton._MAX_NODES", 300)
    with pytest.raises(
        InputError, match=r"'x\{400\}': too large: lower its repeat counts, or take"
    ):
        compile_regex("x{400}")
    monkeypatch.setattr("textgym.constraints.byte_automaton._MAX_STATES", 100)
    with pytest.raises(InputError, match="needs over 100 states: lower its repeat counts, or"):
        compile_regex("x{100}")
    assert len(compile_regex("x{99}").table) == 101
