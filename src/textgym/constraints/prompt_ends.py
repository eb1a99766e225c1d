"""Where the prompt ends and the completion begins in a row of token ids.

A policy sees rows and nothing else, and a mask speaks of the completion. Two ways to find its
start: the task's prompts are known, or every prompt ends with a marker that occurs nowhere else in
it.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np


class PromptEnds:
    """Finds the end of the prompt, as a function of the row alone.

    Make one with `of_prompts` or `of_marker`.
    """

    def __init__(
        self,
        *,
        prompts: frozenset[bytes] = frozenset(),
        marker: bytes = b"",
        token_bytes: Sequence[bytes] = (),
    ) -> None:
        self._prompts, self._marker, self._token_bytes = prompts, marker, token_bytes
        self._sizes = sorted({len(prompt) for prompt in prompts}, reverse=True)

    @classmethod
    def of_prompts(cls, prompts: Iterable[Sequence[int] | np.ndarray]) -> "PromptEnds":
        """From all prompts that there are, as token ids; a row's is the longest it begins with.

        So one may be the beginning of another only where no completion goes on as that one does:
        see `nested`.
        """
        return cls(prompts=frozenset(map(row_key, prompts)))

    @classmethod
    def of_marker(cls, marker: str, token_bytes: Sequence[bytes]) -> "PromptEnds":
        """From a text that ends every prompt.

        :param token_bytes: `[v]`, the bytes of each token.
        """
        return cls(marker=marker.encode("utf-8"), token_bytes=token_bytes)

    def nested(self) -> Iterator[tuple[list[int], list[int]]]:
        """Prompts that begin another one, each with what follows it there."""
        for prompt in self._prompts:
            for size in self._sizes:
                if size < len(prompt) and prompt[:size] in self._prompts:
                    yield _ids(prompt[:size]), _ids(prompt[size:])

    def is_prompt(self, key: bytes) -> bool:
        """Whether a row as it stands, given by its `row_key`, is one of the known prompts."""
        return key in self._prompts

    def find(self, ids: Sequence[int] | np.ndarray) -> int | None:
        """How many ids of a row are its prompt; None if it has no prompt that is known."""
        if self._marker:
            return self._after_marker(ids)
        row = row_key(ids)
        for size in self._sizes:
            if size <= len(row) and row[:size] in self._prompts:
                return size // 8
        return None

    def _after_marker(self, ids: Sequence[int] | np.ndarray) -> int | None:
        tail = b""
        for count, token_id in enumerate(ids, start=1):
            tail += self._token_bytes[token_id]
            if self._marker in tail:
                return count
            tail = tail[-len(self._marker) :]
        return None


def row_key(ids: Sequence[int] | np.ndarray) -> bytes:
    """Token ids as something to look up."""
    return np.asarray(ids, dtype=np.int64).tobytes()


def _ids(key: bytes) -> list[int]:
    return [int(i) for i in np.frombuffer(key, dtype=np.int64)]
