"""What every compiled constraint has: states of a completion, and where completions begin in rows.

A state is a number: all that matters of the completion so far. 0 is `LEFT`; what the others are is
each automaton's own part.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from textgym.constraints import AnyConstraint
from textgym.constraints.prompt_ends import PromptEnds
from textgym.constraints.token_bytes import token_bytes
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

LEFT = 0
"""The state of a completion that left the language, or that has stopped: only stopping is legal."""


class Automaton(ABC):
    """A constraint, compiled for a tokenizer.

    A stop token is legal exactly where the text so far is a full match. Special tokens that stop
    nothing, and tokens without text, are never legal. `start` is the state of an empty completion.

    :param stop_token_ids: the tokens that end a text; default: all of the tokenizer's own.
    :param prompts: all prompts as token ids, if they are known and the constraint has no `after`.
    :raises InputError: if no text of the vocabulary satisfies the constraint, or where the
        tokenizer or the prompts do not fit (see `token_bytes`, `PromptEnds`).
    """

    start: int

    def __init__(
        self,
        constraint: AnyConstraint,
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
        pieces = token_bytes(self.tokenizer)
        written = [b"" if i in self._stops else piece for i, piece in enumerate(pieces)]
        self._compile_language(written)  # a stop token ends the text, whatever it looks like
        after = self.constraint.after
        self.ends: PromptEnds | None = None
        if after is not None:
            self.ends = PromptEnds.of_marker(after, written)
            for prompt in self._prompts:
                self.check_prompt(prompt)
        elif self._prompts:
            self.ends = PromptEnds.of_prompts(self._prompts)
            self._check_nested(self.ends)

    @abstractmethod
    def _compile_language(self, pieces: list[bytes]) -> None:
        """Make what the states are told from, `start` among it.

        :param pieces: `[v]`, the bytes of each token; empty for those that write nothing.
        :raises InputError: if no text of the vocabulary satisfies the constraint.
        """

    @abstractmethod
    def is_legal(self, state: int) -> np.ndarray:
        """bool `[v]`: the tokens that may come next; one at least. Worked out at each call."""

    @abstractmethod
    def advance(self, state: int, token_id: int) -> int:
        """The state after one more token; `LEFT` where it is not legal, or stops."""

    def check_budget(self, max_new_tokens: int) -> None:  # noqa: B027
        """Raises where it can be told that no text ends within the budget; by default nowhere.

        :raises InputError: saying so.
        """

    def _check_nested(self, ends: PromptEnds) -> None:
        """Raises unless each row has one prompt: no completion goes on as a longer prompt does."""
        for shorter, rest in ends.nested():
            if self.states(rest)[-1] != LEFT:
                raise InputError(
                    f"a row could have two prompts: {self._text(shorter)!r:.60} is one, and with "
                    f"{self._text(rest)!r:.40}, which the constraint allows, it is another: end "
                    "all prompts alike and give the constraint after='that ending'"
                )

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

    def __deepcopy__(self, memo: dict[int, Any]) -> "Automaton":
        """Itself: it never changes, but for what it remembers."""
        return self
