"""A regular expression as a deterministic automaton over UTF-8 bytes.

Thompson's construction ("Regular Expression Search Algorithm", 1968) with characters spelled as
byte ranges, then the subset construction (Rabin and Scott, "Finite Automata and Their Decision
Problems", 1959). Python's own parser reads the expression, so the dialect is that of `re`, and a
text belongs to the language exactly where `re.fullmatch` says so. Left out is what no finite
automaton can do (backreferences, look-around) and what would say nothing of a whole text (word
boundaries, possessive repeats); greedy and lazy repeats describe the same texts.
"""

import functools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

# The standard library's parser is not public, but an own one would be another dialect.
from re import _constants as code  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import numpy as np

from textgym.errors import InputError

DEAD = 0
_MAX_NODES, _MAX_STATES = 200_000, 50_000
_SURROGATES = (0xD800, 0xDFFF)
_FLAGS = re.UNICODE | re.DOTALL | re.VERBOSE | re.ASCII
_STARTS = (code.AT_BEGINNING, code.AT_BEGINNING_STRING)
_ENDS = (code.AT_END, code.AT_END_STRING)

Intervals = list[tuple[int, int]]  # of code points, both ends included


@dataclass(frozen=True, eq=False)
class ByteAutomaton:
    """A deterministic automaton; from each state but `DEAD` a full match can still be reached.

    :param table: int32 `[states, 256]`, the state after a byte; `DEAD` (0) leads to itself.
    :param is_final: bool `[states]`, whether the text so far is a full match.
    :param start: the first state; `DEAD` if nothing matches at all.
    """

    table: np.ndarray
    is_final: np.ndarray
    start: int

    def matches(self, text: bytes) -> bool:
        """Whether a whole text belongs to the language."""
        state = self.start
        for byte in text:
            state = int(self.table[state, byte])
        return bool(self.is_final[state])


def compile_regex(pattern: str, *, is_ascii: bool = False) -> ByteAutomaton:
    r"""The automaton of the texts that a regular expression matches from end to end.

    :param is_ascii: `\w`, `\d` and `\s` mean ASCII only (`re.ASCII`).
    :raises InputError: see `check_regex`; also if the automaton is too large.
    """
    nfa, start, end = check_regex(pattern, is_ascii=is_ascii)
    try:
        return _deterministic(nfa, start, end)
    except InputError as error:
        raise InputError(f"regular expression {pattern!r:.60}: {error}") from None


def check_regex(pattern: str, *, is_ascii: bool = False) -> "tuple[_Nfa, int, int]":
    """The quick half of `compile_regex`: a nondeterministic automaton, its start and its end.

    :raises InputError: for an expression that `re` cannot read, or that no automaton can express.
    """
    items, flags = _parse(pattern, re.ASCII if is_ascii else 0)
    nfa = _Nfa()
    start = nfa.new()
    try:
        return nfa, start, nfa.sequence(items, start, flags)
    except (InputError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(f"regular expression {pattern!r:.60}: {reason}") from None


def _parse(pattern: str, flags: int) -> tuple[list[tuple[Any, Any]], int]:
    """The parsed items, anchors at both ends taken off, and the flags in force."""
    if not isinstance(pattern, str):
        raise InputError(f"a regular expression is a text, got {type(pattern).__name__}")
    try:
        parsed = _parser.parse(pattern, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"not a regular expression: {pattern!r:.60} ({error})") from None
    items = list(parsed)
    while items and items[0][0] is code.AT and items[0][1] in _STARTS:
        del items[0]  # the whole text is matched anyway
    while items and items[-1][0] is code.AT and items[-1][1] in _ENDS:
        del items[-1]
    return items, int(parsed.state.flags)


class _Nfa:
    """A nondeterministic automaton that grows: each part begins in a state and returns its end."""

    def __init__(self) -> None:
        self.edges: list[list[tuple[int, int, int]]] = []  # (low, high, target) of bytes
        self.free: list[list[int]] = []  # targets that cost no byte
        self._shared: dict[tuple[int, int, int], int] = {}

    def new(self) -> int:
        """A state without edges."""
        if len(self.edges) >= _MAX_NODES:
            raise InputError("too large: lower its repeat counts, or take fewer words")
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def sequence(self, items: Iterable[tuple[Any, Any]], state: int, flags: int) -> int:
        """One item after the other."""
        if flags & ~_FLAGS:
            raise InputError("flags other than s, x and a are not supported: write [Aa] for (?i)a")
        for kind, argument in items:
            state = self._item(kind, argument, state, flags)
        return state

    def _item(self, kind: Any, argument: Any, state: int, flags: int) -> int:
        if kind in (code.LITERAL, code.NOT_LITERAL, code.ANY, code.IN):
            return self._character(_characters(kind, argument, flags), state)
        if kind is code.SUBPATTERN:
            _, added, removed, items = argument
            return self.sequence(items, state, (flags | added) & ~removed)
        if kind is code.BRANCH:
            end = self.new()
            for items in argument[1]:
                self.free[self.sequence(items, state, flags)].append(end)
            return end
        if kind in (code.MAX_REPEAT, code.MIN_REPEAT):
            low, high, items = argument
            return self._repeat(low, high, items, state, flags)
        name = str(kind).lower().replace("_", " ")
        if kind is code.AT:
            name = "an anchor inside (the whole text is matched anyway)"
        raise InputError(f"{name} is not supported: only what a finite automaton can match")

    def _repeat(self, low: int, high: Any, items: Any, state: int, flags: int) -> int:
        for _ in range(low):
            state = self.sequence(items, state, flags)
        end = self.new()
        if high is code.MAXREPEAT:
            hub = self.new()  # the loop gets a state of its own, so that nothing before it joins in
            self.free[state].append(hub)
            self.free[self.sequence(items, hub, flags)].append(hub)
            self.free[hub].append(end)
            return end
        for _ in range(high - low):
            self.free[state].append(end)
            state = self.sequence(items, state, flags)
        self.free[state].append(end)
        return end

    def _character(self, intervals: Intervals, state: int) -> int:
        """One character out of some intervals, spelled in UTF-8."""
        end = self.new()
        for low, high in intervals:
            for path in _utf8_paths(low, high):
                target = end
                for byte_range in reversed(path[1:]):
                    target = self._before(*byte_range, target)
                self.edges[state].append((*path[0], target))
        return end

    def _before(self, low: int, high: int, target: int) -> int:
        """A state that goes to `target` by these bytes; equal ones are shared."""
        key = (low, high, target)
        if key not in self._shared:
            self._shared[key] = self.new()
            self.edges[self._shared[key]].append(key)
        return self._shared[key]

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        """The states reached without a byte, these included."""
        todo, seen = list(states), set(states)
        while todo:
            for target in self.free[todo.pop()]:
                if target not in seen:
                    seen.add(target)
                    todo.append(target)
        return frozenset(seen)


def _deterministic(nfa: _Nfa, start: int, end: int) -> ByteAutomaton:
    """The subset construction, then without the states from which no match can be reached."""
    closures: dict[frozenset[int], frozenset[int]] = {}
    first = nfa.closure([start])
    numbers, sets = {first: 1}, [frozenset[int](), first]
    rows = [np.zeros(256, dtype=np.int32)]
    before: list[set[int]] = [set(), set()]  # which states lead to each
    while len(rows) < len(sets):
        moves: dict[int, set[int]] = {}
        for node in sets[len(rows)]:
            for low, high, target in nfa.edges[node]:
                for byte in range(low, high + 1):
                    moves.setdefault(byte, set()).add(target)
        row = np.zeros(256, dtype=np.int32)
        for byte, targets in moves.items():
            key = frozenset(targets)
            if key not in closures:
                closures[key] = nfa.closure(key)
            after = closures[key]
            if after not in numbers:
                if len(sets) > _MAX_STATES:
                    raise InputError(
                        f"needs over {_MAX_STATES} states: lower its repeat counts, or take "
                        "fewer words"
                    )
                numbers[after] = len(sets)
                sets.append(after)
                before.append(set())
            row[byte] = numbers[after]
            before[numbers[after]].add(len(rows))
        rows.append(row)
    is_final = np.array([end in states for states in sets])
    is_alive, todo = is_final.copy(), np.flatnonzero(is_final).tolist()
    while todo:
        for state in before[todo.pop()]:
            if not is_alive[state]:
                is_alive[state] = True
                todo.append(state)
    number = np.where(is_alive, is_alive.cumsum(), DEAD).astype(np.int32)
    is_kept = is_alive.copy()
    is_kept[DEAD] = True
    return ByteAutomaton(number[np.stack(rows)[is_kept]], is_final[is_kept], int(number[1]))


# ---- Sets of characters ----------------------------------------------------------------------


def _characters(kind: Any, argument: Any, flags: int) -> Intervals:
    """The characters that one item stands for."""
    if kind is code.LITERAL:
        return _without_surrogates([(argument, argument)])
    if kind is code.NOT_LITERAL:
        return _complement([(argument, argument)])
    if kind is code.ANY:
        return _complement([] if flags & re.DOTALL else [(10, 10)])
    intervals: Intervals = []
    is_negated = False
    for member, value in argument:
        if member is code.NEGATE:
            is_negated = True
        elif member is code.LITERAL:
            intervals.append((value, value))
        elif member is code.RANGE:
            intervals.append(value)
        else:
            intervals += _category(str(value), bool(flags & re.ASCII))
    return _complement(intervals) if is_negated else _without_surrogates(intervals)


_CATEGORIES: dict[str, Callable[[str], bool]] = {
    "DIGIT": str.isdecimal,
    "SPACE": str.isspace,
    "WORD": lambda character: character.isalnum() or character == "_",
}


@functools.cache
def _category(name: str, is_ascii: bool) -> tuple[tuple[int, int], ...]:
    r"""The characters of `\d`, `\s`, `\w` or their opposites, as `re` understands them."""
    *_, kind = name.split("_")
    belongs = _CATEGORIES[kind]
    found: Intervals = []
    for point in range(128 if is_ascii else sys.maxunicode + 1):
        # The separators 1C to 1F are spaces to str.isspace and to re, but not to re.ASCII.
        if belongs(chr(point)) and not (is_ascii and 0x1C <= point <= 0x1F):
            if found and found[-1][1] == point - 1:
                found[-1] = (found[-1][0], point)
            else:
                found.append((point, point))
    return tuple(_complement(found) if "NOT" in name else found)


def _complement(intervals: Sequence[tuple[int, int]]) -> Intervals:
    """All other characters."""
    result, at = [], 0
    for low, high in sorted(intervals):
        if low > at:
            result.append((at, low - 1))
        at = max(at, high + 1)
    if at <= sys.maxunicode:
        result.append((at, sys.maxunicode))
    return _without_surrogates(result)


def _without_surrogates(intervals: Intervals) -> Intervals:
    """Only what UTF-8 can hold."""
    low, high = _SURROGATES
    parts = [part for a, b in intervals for part in ((a, min(b, low - 1)), (max(a, high + 1), b))]
    return [(a, b) for a, b in parts if a <= b]


def _utf8_paths(low: int, high: int) -> Iterator[list[tuple[int, int]]]:
    """Characters from `low` to `high` as sequences of byte ranges, each with all its bytes free."""
    for last in (0x7F, 0x7FF, 0xFFFF):  # the last character of one, two and three bytes
        if low <= last < high:
            yield from _utf8_paths(low, last)
            yield from _utf8_paths(last + 1, high)
            return
    for bits in range(6, 6 * len(chr(low).encode()), 6):  # the bits of the last bytes
        block = (1 << bits) - 1
        if low | block < high | block:  # the bytes before them differ: these must be free
            if low & block:
                yield from _utf8_paths(low, low | block)
                yield from _utf8_paths((low | block) + 1, high)
                return
            if high & block != block:
                yield from _utf8_paths(low, (high & ~block) - 1)
                yield from _utf8_paths(high & ~block, high)
                return
    yield list(zip(chr(low).encode(), chr(high).encode(), strict=True))
