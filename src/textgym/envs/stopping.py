"""Stopping criteria: the stop tokens, a chat template's end of a turn, the task's stop strings."""

import re

import numpy as np

from textgym.envs.task import Task
from textgym.errors import InputError
from textgym.tokenizer import Tokenizer

_SPECIAL = re.compile(r"<\|.+\|>")


class StopRule:
    """The stop tokens and stop strings of a task, ready to be looked up a batch at a time.

    :raises InputError: if a stop string is written like a special token that the tokenizer lacks.
    """

    def __init__(self, task: Task) -> None:
        self._tokenizer = tokenizer = task.tokenizer
        self.is_stop_token = np.zeros(tokenizer.vocab_size, dtype=bool)
        self.is_stop_token[list(tokenizer.eos_token_ids)] = True
        template = task.chat_template()
        if template is not None:
            self.is_stop_token[template.stop_ids] = True
        strings = []
        for text in task.stop_strings:
            token_id = tokenizer.token_to_id(text)
            if token_id is not None and not tokenizer.decode([token_id]):
                self.is_stop_token[token_id] = True
            elif _SPECIAL.fullmatch(text):
                raise InputError(
                    f"stop {text!r} is not a special token of the tokenizer: name one that is, or "
                    "leave stop out (the text then ends with the eos token)"
                )
            else:
                strings.append(text)
        self.strings = tuple(strings)
        self._may_end = _may_end(tokenizer, self.strings)

    def string_cuts(
        self, tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray, is_open: np.ndarray
    ) -> dict[int, int]:
        """Rows whose newest token completes a stop string, and how many characters stand before it.

        Only rows whose newest token can do that are decoded at all.

        :param tokens: int64 [n, width]; the text of a row is `tokens[row, starts[row]:ends[row]]`.
        :param is_open: bool [n], the rows to look at.
        """
        if not self.strings:
            return {}
        newest = tokens[np.arange(len(tokens)), ends - 1]
        rows = np.flatnonzero(is_open & self._may_end[newest]).tolist()
        texts = self._tokenizer.decode_continuations(
            [tokens[row, : starts[row]] for row in rows],
            [tokens[row, starts[row] : ends[row]].tolist() for row in rows],
        )
        cuts = {}
        for row, text in zip(rows, texts, strict=True):
            found = [at for at in map(text.find, self.strings) if at >= 0]
            if found:
                cuts[row] = min(found)
        return cuts

    def without_stop_token(self, rows: list[list[int]]) -> list[list[int]]:
        """Rows of ids without the stop token at their end, which is no text even if it looks so."""
        return [ids[:-1] if ids and self.is_stop_token[ids[-1]] else ids for ids in rows]


def _may_end(tokenizer: Tokenizer, strings: tuple[str, ...]) -> np.ndarray:
    """Bool [v]: the tokens whose text holds a stop string's last character, or half a character."""
    if not strings:
        return np.zeros(0, dtype=bool)
    lasts = {text[-1] for text in strings} | {"\ufffd"}
    # Twice in a row, since some decoders drop a space at the start of a text.
    texts = tokenizer.decode_batch([[i, i] for i in range(tokenizer.vocab_size)])
    return np.array([not lasts.isdisjoint(text) for text in texts], dtype=bool)
