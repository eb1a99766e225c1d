"""The finished turns of a dialogue, the player's and the environment's."""

from typing import NamedTuple

from textgym.envs.replies import Answer
from textgym.tokenizer_decoding import Ids


class Turn(NamedTuple):
    """What one side said.

    :param ids: the player's; None where the environment spoke.
    :param before: the ids of the row in front of the player's.
    """

    text: str
    ids: list[int] | None
    before: Ids = ()

    def as_column(self) -> dict[str, str]:
        """What a reward model gets of it."""
        return {"who": "environment" if self.ids is None else "player", "text": self.text}


class Replied(NamedTuple):
    """What a finished turn of the player led to.

    :param is_laid: the environment's words join the row.
    """

    own: Turn
    answer: Answer
    is_laid: bool

    @property
    def turns(self) -> list[Turn]:
        """The turns that the dialogue grows by."""
        words = self.answer.reply.text
        is_spoken = self.is_laid and not (self.answer.reply.terminated and not words)
        return [self.own, Turn(words, None)] if is_spoken else [self.own]
