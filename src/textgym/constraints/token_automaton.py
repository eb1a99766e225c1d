"""Which tokens may come next, state by state.

A state is a small number: all that matters of the completion so far. It comes from the automaton
over bytes (`byte_automaton`), and a token leads where its bytes lead one after the other. Nothing
is worked out for a state before somebody asks: a run meets few states, and a vocabulary is large.
Legend: `v` vocabulary.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from textgym.constraints import Constraint
from textgym.constraints.byte_automaton import DEAD, compile_regex
from textgym.constraints.prompt_ends import PromptEnds
from textgym.constraints.token_bytes import token_bytes
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

LEFT = DEAD
"""The state of a completion that left the language, or that has stopped: only stopping is legal."""


class TokenAutomaton:
    """A constraint, compiled for a tokenizer.

    A stop token is legal exactly where the text so far is a full match. From every state that legal
    tokens lead to, a full match can still be reached with the tokens there are. Special tokens that
    stop nothing, and tokens without text, are never legal. States run from 0, which is `LEFT`, to
    `n_states - 1`; `start` is that of an empty completion.

    :param stop_token_ids: the tokens that end a text; default: all of the tokenizer's own.
    :param prompts: all prompts as token ids, if they are known and the constraint has no `after`.
    :raises InputError: if no text of the vocabulary satisfies the constraint, or where the
        tokenizer or the prompts do not fit (see `token_bytes`, `PromptEnds`).
    """

    def __init__(
        self,
        constraint: Constraint,
        tokenizer: Tokenizer,
        *,
        stop_token_ids: Collection[int] = (),
        prompts: Collection[Sequence[int] | np.ndarray] = (),
    ) -> None:
        self.constraint, self.tokenizer = constraint, tokenizer
        self.vocab_size = tokenizer.vocab_size
        self.stop_token_ids = np.array(
            sorted(stop_token_ids or tokenizer.eos_token_ids), dtype=np.int64
        )
        self._stops = frozenset(self.stop_token_ids.tolist())
        self._prompts = tuple(tuple(map(int, prompt)) for prompt in prompts)
        self._compile()

    def _compile(self) -> None:
        automaton = compile_regex(self.constraint.pattern, is_ascii=self.constraint.is_ascii)
        pieces = token_bytes(self.tokenizer)
        for stop in self.stop_token_ids:
            pieces[stop] = b""  # it ends the text, whatever it looks like
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
        after = self.constraint.after
        self.ends: PromptEnds | None = None
        if after is not None:
            self.ends = PromptEnds.of_marker(after, pieces)
            for prompt in self._prompts:
                self.check_prompt(prompt)
        elif self._prompts:
            self.ends = PromptEnds.of_prompts(self._prompts)
            self._check_nested(self.ends)

    def _check_nested(self, ends: PromptEnds) -> None:
        """Raises unless each row has one prompt: no completion goes on as a longer prompt does."""
        for shorter, rest in ends.nested():
            if self.states(rest)[-1] != LEFT:
                raise InputError(
                    f"a row could have two prompts: {self._text(shorter)!r:.60} is one, and with "
                    f"{self._text(rest)!r:.40}, which the constraint allows, it is another: end "
                    "all prompts alike and give the constraint after='that ending'"
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

    def is_full_match(self, state: int) -> bool:
        """Whether the completion so far satisfies the constraint as it stands."""
        return bool(self._is_final[state])

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

    def states(self, completion: Iterable[int]) -> list[int]:
        """The state before each token of a completion and after the last: `[len + 1]`."""
        states = [self.start]
        for token_id in completion:
            states.append(self.advance(states[-1], token_id))
        return states

    # ---- rows ----------------------------------------------------------------------------------

    def row_states(self, ids: Sequence[int], prompt_length: int) -> list[int | None]:
        """The state after each id of a row, `[len(ids)]`; None where the player does not go on.

        That is before the prompt's end, and in the environment's words of a dialogue: they follow
        a stop token and end with the constraint's `after`, behind which the next turn starts.
        """
        states: list[int | None] = [None] * (prompt_length - 1)
        place = prompt_length
        while True:
            end = self._turn_end(ids, place)
            states += self.states(ids[place:end])
            if end == len(ids):
                return states
            assert self.ends is not None
            spoken = self.ends.find(ids[end:])
            if spoken is None:
                return states + [None] * (len(ids) - end)
            states += [None] * (spoken - 1)
            place = end + spoken

    def _turn_end(self, ids: Sequence[int], start: int) -> int:
        """One past the stop token that ends a turn, or the row's end."""
        if not self.constraint.after:
            return len(ids)
        return next((i + 1 for i in range(start, len(ids)) if ids[i] in self._stops), len(ids))

    def prompt_length(self, ids: Sequence[int] | np.ndarray) -> int:
        """How many ids of a row, prompt and completion so far, are its prompt.

        :raises InputError: if that cannot be told.
        """
        if self.ends is None:
            raise InputError(
                "a policy must see where a prompt ends, and with prompts from a function or a "
                "stream only the constraint can say so: give it after='the text that ends them all'"
            )
        length = self.ends.find(ids)
        if length is None:
            wanted = (
                "begins with no prompt of the task"
                if self.constraint.after is None
                else f"holds no {self.constraint.after!r}, which ends every prompt"
            )
            raise InputError(
                f"the row {self._text(ids)!r:.60} {wanted}: play it in an environment with its "
                "prompt, or give the constraint after=..."
            )
        return length

    def check_prompt(self, ids: Sequence[int] | np.ndarray) -> None:
        """Raises unless the constraint's `after` ends this prompt and occurs nowhere else in it.

        :raises InputError: saying so.
        """
        assert self.ends is not None
        if self.ends.find(ids) != len(ids):
            raise InputError(
                f"the constraint's after={self.constraint.after!r:.40} must end every prompt and "
                f"occur only there, got the prompt {self._text(ids)!r:.60}"
            )

    def _text(self, ids: Sequence[int] | np.ndarray) -> str:
        return self.tokenizer.decode([int(i) for i in ids])

    def __getstate__(self) -> dict[str, Any]:
        """What it was made of; the rest is worked out anew."""
        names = ("constraint", "tokenizer", "vocab_size", "stop_token_ids", "_stops", "_prompts")
        return {name: self.__dict__[name] for name in names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._compile()

    def __deepcopy__(self, memo: dict[int, Any]) -> "TokenAutomaton":
        """Itself: it never changes, but for what it remembers."""
        return self
