"""The observation space of token environments: one right-padded row of token ids."""

from typing import Any

import numpy as np
from gymnasium import spaces

from textgym.constraints.automaton import Automaton


class TokenRow(spaces.Box):
    """A `Box` of int64 token ids `[width]` that also knows padding and which tokens are legal.

    :param vocab_size: ids run from 0 to `vocab_size - 1`.
    :param width: tokens of a row.
    :param pad_token_id: fills a row to the right of its last token.
    :param automaton: the compiled constraint of the task, which policies read their masks from;
        None if every token is legal. Any row is an observation all the same.

    `split_rows` is the number of rows whose episode ended in the last step with a dense reward: so
    a buffer notices where the split was lost.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int,
        pad_token_id: int,
        automaton: Automaton | None = None,
    ) -> None:
        super().__init__(0, vocab_size - 1, (width,), np.int64)
        self.pad_token_id, self.automaton = pad_token_id, automaton
        self.split_rows = 0

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.pad_token_id = dict(state)["pad_token_id"]
        self.automaton = dict(state).get("automaton")
        self.split_rows = 0
