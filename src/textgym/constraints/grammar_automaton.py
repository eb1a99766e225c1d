"""Which tokens may come next under a context-free grammar.

A grammar has no finite automaton, so a state stands for the text so far: its number is a hash of
the bytes, the same in every process and whatever the tokens that wrote them. llguidance's parser
says what is legal there; a few parsers are kept and copied, the others made again from the tokens.
Legend: `v` vocabulary.
"""

from collections import OrderedDict, deque
from typing import Any

import numpy as np

from textgym.constraints import GrammarConstraint
from textgym.constraints.automaton import LEFT, Automaton
from textgym.constraints.grammars import new_matcher
from textgym.errors import InputError

_PARSERS, _TEXTS, _SEARCHED = 512, 200_000, 2_000
_MODULUS, _BASE = 2**61 - 1, 1_000_003_931_393


class GrammarAutomaton(Automaton):
    """A grammar, compiled for a tokenizer; see `Automaton`.

    A text that cannot go on with the tokens that there are may only stop, even where it is no full
    match; with a tokenizer that has every byte as a token there is no such text.
    """

    constraint: GrammarConstraint

    def _compile_language(self, pieces: list[bytes]) -> None:
        self._pieces = pieces
        self._is_written = np.array([bool(piece) for piece in pieces])
        self.start = 1
        first = new_matcher(self.constraint.grammar, pieces, int(self.stop_token_ids[0]))
        self._first = first
        self._parsers: OrderedDict[int, Any] = OrderedDict()
        self._tokens: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        self._steps: dict[tuple[int, int], int] = {}
        if self._has_no_text():
            raise InputError(
                "no text that this tokenizer can write satisfies the grammar "
                f"{self.constraint.grammar!r:.60}: change it, or take another tokenizer"
            )

    # ---- states --------------------------------------------------------------------------------

    def is_legal(self, state: int) -> np.ndarray:
        """bool `[v]`: the tokens that may come next; one at least. Worked out at each call."""
        is_legal = np.zeros(self.vocab_size, dtype=bool)
        parser = None if state == LEFT else self._parser(state)
        if parser is not None:
            is_legal = self._goes_on(parser)
        if parser is None or parser.is_accepting() or not is_legal.any():
            is_legal[self.stop_token_ids] = True
        return is_legal

    def advance(self, state: int, token_id: int) -> int:
        """The state after one more token; `LEFT` where it is not legal, or stops."""
        if state == LEFT or not self._is_written[token_id]:
            return LEFT
        key = state, token_id
        after = self._steps.get(key)
        if after is None or (after != LEFT and after not in self._tokens):
            after = self._advance(state, token_id)
            if len(self._steps) >= 4 * _TEXTS:
                self._steps.clear()
            self._steps[key] = after
        elif after != LEFT:
            self._tokens.move_to_end(after)
        return after

    def _advance(self, state: int, token_id: int) -> int:
        parser = self._parser(state).deep_copy()
        if parser.try_consume_tokens([token_id]) != 1:
            return LEFT
        after = state
        for byte in self._pieces[token_id]:
            after = (after * _BASE + byte + 1) % _MODULUS
        after = after or _MODULUS  # 0 is LEFT
        self._keep(self._parsers, after, parser, _PARSERS)
        self._keep(self._tokens, after, (*self._written(state), token_id), _TEXTS)
        return after

    def _goes_on(self, parser: Any) -> np.ndarray:
        """bool `[v]`: the tokens with a text that may come next."""
        bits = np.frombuffer(parser.compute_bitmask(), dtype=np.uint8)
        is_set = np.unpackbits(bits, bitorder="little", count=self.vocab_size).astype(bool)
        goes_on: np.ndarray = is_set & self._is_written
        return goes_on

    def _parser(self, state: int) -> Any:
        """The parser behind the text of a state; not to be moved on, but as a copy."""
        parser = self._parsers.get(state)
        if parser is None:
            parser = self._first.deep_copy()
            parser.try_consume_tokens(list(self._written(state)))
            self._keep(self._parsers, state, parser, _PARSERS)
        return parser

    def _written(self, state: int) -> tuple[int, ...]:
        """Tokens that lead to a state, those of the first who came there."""
        return () if state == self.start else self._tokens[state]

    @staticmethod
    def _keep(kept: "OrderedDict[int, Any]", state: int, value: Any, most: int) -> None:
        """Remember something of a state, and forget what was asked for longest ago."""
        kept[state] = value
        kept.move_to_end(state)
        if len(kept) > most:
            kept.popitem(last=False)

    # ---- is there a text? ----------------------------------------------------------------------

    def check_budget(self, max_new_tokens: int) -> None:
        """Raises where a short search finds that no text ends within the budget.

        :param max_new_tokens: of which the stop token takes one.
        :raises InputError: saying so; where the search is too long, nothing is said.
        """
        if self._has_no_text(most_tokens=max_new_tokens - 1):
            raise InputError(
                f"no text of the grammar {self.constraint.grammar!r:.60} ends within "
                f"max_new_tokens={max_new_tokens}, the stop token counted: raise it"
            )

    def _has_no_text(self, most_tokens: int | None = None) -> bool:
        """Whether a short search, shortest texts first, ends without a full match.

        :param most_tokens: that a text may have; None: as many as it likes.
        """
        todo, seen = deque([(self.start, 0)]), {self.start}
        while todo:
            state, count = todo.popleft()
            parser = self._parser(state)
            legal = np.flatnonzero(self._goes_on(parser)).tolist()
            if parser.is_accepting() or len(seen) + len(legal) > _SEARCHED:
                return False  # there is one, or nobody can tell
            if most_tokens is not None and count >= most_tokens:
                continue
            for token_id in legal:
                after = self.advance(state, token_id)
                if after not in seen and after != LEFT:
                    seen.add(after)
                    todo.append((after, count + 1))
        return True
