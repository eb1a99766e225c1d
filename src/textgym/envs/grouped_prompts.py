"""Groups of episodes with the same prompt, which critic-free algorithms compare."""

import numpy as np

from textgym.envs.texts.prompts import Prompt, PromptSource
from textgym.errors import InputError


class GroupedPrompts:
    """Draws a prompt and deals it to the next `size` episodes that start.

    So a group's episodes start one after the other, wherever a row is free: no row waits for the
    others of its group, and no group lags behind.

    :param size: episodes of a group.
    :raises InputError: if it is not positive.
    """

    def __init__(self, source: PromptSource, size: int = 1) -> None:
        if not isinstance(size, int) or size < 1:
            raise InputError(f"num_generations must be a whole number, at least 1, got {size!r}")
        self.source, self.size = source, size
        self._dealt = 0
        self._prompt: Prompt | None = None

    def next_prompt(self, generator: np.random.Generator) -> tuple[Prompt, int]:
        """The next episode's prompt, and the number of its group.

        :param generator: draws the prompt, if the episode is the first of its group.
        """
        group, place = divmod(self._dealt, self.size)
        if place == 0 or self._prompt is None:
            self._prompt = self.source.draw(generator)
        self._dealt += 1
        return self._prompt, group

    @property
    def dealt(self) -> tuple[int, Prompt | None]:
        """Episodes dealt so far, and the prompt of the last of them."""
        return self._dealt, self._prompt

    @dealt.setter
    def dealt(self, state: tuple[int, Prompt | None]) -> None:
        """Go on from there."""
        self._dealt, self._prompt = state

    def restart(self) -> None:
        """Let the next episode begin a group, and leave the open one as it is."""
        self._dealt = -(-self._dealt // self.size) * self.size
