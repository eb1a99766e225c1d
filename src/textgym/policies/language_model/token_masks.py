"""Action masks over tokens, a function of the observation: where a constraint meets the logits.

A policy under masks needs no word from the environment: it finds the end of the prompt in the row,
walks the completion's tokens once, and looks up what the state reached allows. Masks of states are
bool rows of one table, kept once and gathered; a buffer never holds one. Legend: `n` rows, `L`
width of a row, `A` acted positions, `v` vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from textgym.constraints.automaton import Automaton
from textgym.errors import InputError
from textgym.policies.language_model.packing import PackedSegments, row_lengths

# Past these all is forgotten, and worked out again where it is asked for.
_MOST_STATES, _MOST_BYTES = 500_000, 2**28


class TokenMasks:
    """Which tokens are legal in a row, or at each acted position of packed segments.

    :param automaton: the task's compiled constraint.
    """

    def __init__(self, automaton: Automaton) -> None:
        self.automaton = automaton
        self._forget()

    @classmethod
    def of_space(cls, observation_space: Any) -> "TokenMasks | None":
        """The masks of an environment, from its observation space; None without a constraint.

        :raises InputError: if rows do not say where their prompts end.
        """
        automaton = getattr(observation_space, "automaton", None)
        if automaton is None:
            return None
        if automaton.ends is None:
            automaton.prompt_length([])  # raises, and says what to do
        return cls(automaton)

    def _forget(self) -> None:
        self._last_rows: dict[str, dict[bytes, int]] = {}
        self._forget_masks()

    def _forget_masks(self) -> None:
        self._slots: dict[int, int] = {}  # state → row of the table
        self._slot_of_mask: dict[bytes, int] = {}  # a grammar's states are many, their masks few
        self._table = torch.zeros((0, self.automaton.vocab_size), dtype=torch.bool)

    @property
    def states_kept(self) -> int:
        """States whose mask has been worked out; each is once, however often it is met."""
        return len(self._slots)

    def knows(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether each of some lists of token ids is a whole prompt of the task."""
        ends = self.automaton.ends
        return ends is not None and all(ends.find(ids) == len(ids) for ids in prompts)

    def is_legal(self, obs: Tensor | PackedSegments, *, caller: str = "") -> Tensor:
        """bool `[A, v]`: the tokens that may come next; one at least in each row.

        :param obs: rows `[n, L]` int64, right-padded, or packed segments.
        :param caller: rows of the same caller are taken to grow by a token a call, which saves
            walking them anew; the result does not depend on it.
        :raises InputError: for a row whose prompt is unknown.
        """
        return self.of_states(self.states(obs, caller=caller), _device(obs))

    def apply(self, logits: Tensor, obs: Tensor | PackedSegments, *, caller: str = "") -> Tensor:
        """The logits with illegal tokens at -inf.

        :param logits: `[A, w]` float, `w` at least the tokenizer's vocabulary; what is past that is
            never legal.
        :return: `[A, w]`, a new tensor.
        """
        return self.apply_states(logits, self.states(obs, caller=caller))

    def apply_states(self, logits: Tensor, states: list[int]) -> Tensor:
        """As `apply`, for states that are known already: one for each row of the logits."""
        is_legal = self.of_states(states, logits.device)
        beyond = logits.shape[-1] - is_legal.shape[-1]
        is_legal = torch.nn.functional.pad(is_legal, (0, beyond)) if beyond else is_legal
        return logits.masked_fill(~is_legal, float("-inf"))

    def states(self, obs: Tensor | PackedSegments, *, caller: str = "") -> list[int]:
        """The automaton's state at the last token of each row, or at each acted position."""
        if isinstance(obs, PackedSegments):
            return self._packed_states(obs)
        return self._row_states(obs, caller)

    def of_states(self, states: list[int], device: torch.device) -> Tensor:
        """bool `[len(states), v]`: the masks of given states."""
        if len(self._slots) > _MOST_STATES or self._table.numel() > _MOST_BYTES:
            self._forget_masks()
        for state in states:
            if state not in self._slots:
                self._keep(state)
        if self._table.device != device:
            self._table = self._table.to(device)
        slots = torch.tensor([self._slots[state] for state in states], device=device)
        return self._table.index_select(0, slots.long())

    def _keep(self, state: int) -> None:
        is_legal = self.automaton.is_legal(state)
        slot = len(self._slot_of_mask)
        slot = self._slots[state] = self._slot_of_mask.setdefault(
            np.packbits(is_legal).tobytes(), slot
        )
        if slot == len(self._table):
            larger = self._table.new_zeros((max(16, 2 * slot), self.automaton.vocab_size))
            larger[:slot] = self._table
            self._table = larger
        self._table[slot] = torch.from_numpy(is_legal)

    def _row_states(self, rows: Tensor, caller: str) -> list[int]:
        lengths = row_lengths(rows, self.automaton.tokenizer.pad_token_id).tolist()
        ends = self.automaton.ends
        before = self._last_rows.get(caller, {})
        now: dict[bytes, int] = {}
        result = []
        for row, length in zip(rows.cpu().numpy().astype(np.int64), lengths, strict=True):
            whole, shorter = row[:length].tobytes(), row[: length - 1].tobytes()
            if whole in before:
                state = before[whole]
            elif shorter in before and not (ends is not None and ends.is_prompt(whole)):
                state = self.automaton.advance(before[shorter], int(row[length - 1]))
            else:
                last = self._walk(row[:length].tolist())[-1]
                if last is None:
                    raise InputError("a row that ends in the environment's words: nothing to mask")
                state = last
            now[whole] = state
            result.append(state)
        self._last_rows[caller] = now
        return result

    def _packed_states(self, packed: PackedSegments) -> list[int]:
        tokens, acted = packed.tokens.tolist(), packed.acted_index.tolist()
        states: list[int | None] = []
        start = 0
        for length in packed.lengths.tolist():
            states += self._walk(tokens[start : start + length])
            start += length
        at = [states[index] for index in acted]
        known = [state for state in at if state is not None]
        if len(known) < len(at):
            raise InputError(
                "an action inside the prompt or the environment's words: a constraint speaks of "
                "the player's only"
            )
        return known

    def _walk(self, tokens: list[int]) -> list[int | None]:
        """The state after each token of a row, where there is one."""
        return self.automaton.row_states(tokens, self.automaton.prompt_length(tokens))

    def __getstate__(self) -> dict[str, Any]:
        """Only the automaton; masks are worked out anew."""
        return {"automaton": self.automaton}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.automaton = state["automaton"]
        self._forget()


def _device(obs: Tensor | PackedSegments) -> torch.device:
    """Where an observation is."""
    return obs.tokens.device if isinstance(obs, PackedSegments) else obs.device
