"""Which tokens may come next, state by state, of a regular expression.

A state comes from the automaton over bytes (`byte_automaton`), and a token leads where its bytes
lead one after the other. Nothing is worked out for a state before somebody asks: a run meets few
states, and a vocabulary is large. Legend: `v` vocabulary.
"""

import numpy as np

from textgym.constraints import Constraint
from textgym.constraints.automaton import LEFT, Automaton
from textgym.constraints.byte_automaton import DEAD, compile_regex
from textgym.errors import InputError

assert DEAD == LEFT


class TokenAutomaton(Automaton):
    """A regular expression, compiled for a tokenizer; see `Automaton`.

    From every state that legal tokens lead to, a full match can still be reached with the tokens
    there are. States run from 0, which is `LEFT`, to `n_states - 1`.
    """

    constraint: Constraint

    def _compile_language(self, pieces: list[bytes]) -> None:
        automaton = compile_regex(self.constraint.pattern, is_ascii=self.constraint.is_ascii)
        self._table, self._is_final = automaton.table, automaton.is_final
        self.start, self.n_states = automaton.start, len(automaton.table)
        self._sizes = np.array([len(piece) for piece in pieces])
        self._bytes = np.zeros((len(pieces), max(1, self._sizes.max())), dtype=np.uint8)
        for token_id, piece in enumerate(pieces):
            self._bytes[token_id, : len(piece)] = list(piece)
        self._steps: dict[tuple[int, int], int] = {}
        # The language may hold characters that no token spells. Then a state that bytes could leave
        # may be one that tokens cannot, and a token into it would never let the text end.
        self._is_alive = np.ones(len(self._table), dtype=bool)
        if self.start != DEAD and not self._has_every_byte():
            self._is_alive = self._reaching_the_end()
        if self.start == DEAD or not self._is_alive[self.start]:
            raise InputError(
                f"no text that this tokenizer can write satisfies the constraint "
                f"{self.constraint.pattern!r:.60}: change it, or take another tokenizer"
            )

    def _has_every_byte(self) -> bool:
        """Whether each byte of the language is a token, so that whatever can go on can end."""
        single = self._bytes[self._sizes == 1, 0]
        return bool(np.isin(np.flatnonzero(self._table.any(axis=0)), single).all())

    def _reaching_the_end(self) -> np.ndarray:
        """Bool [states]: those met on the way from which tokens lead to a full match."""
        before: dict[int, list[int]] = {self.start: []}
        todo = [self.start]
        while todo:
            state = todo.pop()
            for after in np.unique(self.successors(state)).tolist():
                if after != DEAD:
                    if after not in before:
                        before[after] = []
                        todo.append(after)
                    before[after].append(state)
        # Backwards from the full matches, over the arrows that tokens take.
        is_alive = np.zeros(len(self._table), dtype=bool)
        todo = [state for state in before if self._is_final[state]]
        while todo:
            state = todo.pop()
            if not is_alive[state]:
                is_alive[state] = True
                todo += before[state]
        return is_alive

    # ---- states --------------------------------------------------------------------------------

    def successors(self, state: int) -> np.ndarray:
        """int32 `[v]`: the state after each token; `LEFT` where it is not legal, or stops."""
        states = np.where(self._sizes > 0, state, DEAD).astype(np.int32)
        for i in range(self._bytes.shape[1]):  # all tokens at once, one byte after the other
            active = np.flatnonzero((self._sizes > i) & (states != DEAD))
            if not len(active):
                break
            states[active] = self._table[states[active], self._bytes[active, i]]
        states[~self._is_alive[states]] = LEFT
        return states

    def is_legal(self, state: int) -> np.ndarray:
        """bool `[v]`: the tokens that may come next; one at least. Worked out at each call."""
        is_legal: np.ndarray = self.successors(state) != LEFT
        if state == LEFT or self._is_final[state]:
            is_legal[self.stop_token_ids] = True
        return is_legal

    def advance(self, state: int, token_id: int) -> int:
        """The state after one more token; as `successors` says, for one token and remembered."""
        key = state, token_id
        after = self._steps.get(key)
        if after is None:
            after = state if self._sizes[token_id] else LEFT
            for byte in self._bytes[token_id, : self._sizes[token_id]].tolist():
                after = int(self._table[after, byte])
            after = self._steps[key] = after if self._is_alive[after] else LEFT
        return after
