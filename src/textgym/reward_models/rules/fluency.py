"""How fluent a completion is to a frozen reader: minus its bits per character."""

import math
import unicodedata
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.rules.columns import check_texts, refusal


class Reader(Protocol):
    """Who can say how surprising a text is: a language model, or n-grams."""

    def bits(self, prompts: Sequence[str], completions: Sequence[str]) -> npt.NDArray[np.float64]:
        """float64 [b], bits of each whole completion after its prompt; 0 for an empty one."""


class Fluency:
    """max(-limit, -bits / characters), in [-limit, 0]: near 0 for what the reader foresees.

    Good English has some -1 under a large language model, -2 under n-grams; noise has -6 and less.
    An empty completion gets -limit, so that silence does not pay. The commonest phrases are the
    least surprising: alone, this reward ends in repetition (add `repetition`, or a KL term).

    :param reader: anything with `bits(prompts, completions)`. It is never trained.
    :param limit: the floor, in bits per character (a code point of the composed text).
    :param name: in logs.
    :raises InputError: for what is no reader, or a limit that is not positive.
    """

    def __init__(self, reader: Reader, *, limit: float = 8.0, name: str = "fluency") -> None:
        if not callable(getattr(reader, "bits", None)):
            raise InputError(
                f"{name}: reader must have bits(prompts, completions), got {reader!r:.60}: pass a "
                "ModelReader, an NgramReader or a TransformersReader"
            )
        if not 0 < limit < math.inf:
            raise InputError(f"{name}: limit must be above 0 and finite, got {limit!r}")
        self.reader, self.limit, self.name = reader, float(limit), name

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> list[float]:
        """:returns: one float in [-limit, 0] per completion.

        :raises RewardError: naming the prompt of a text that the reader cannot read.
        """
        check_texts(self.name, prompts, completions)
        bits = np.asarray(self.reader.bits(list(prompts), list(completions)), np.float64)
        if bits.shape != (len(completions),) or np.isnan(bits).any():
            row = int(np.isnan(bits).argmax()) if bits.shape == (len(completions),) else 0
            what = f"got no number of bits from its reader, {type(self.reader).__name__}"
            raise refusal(self.name, prompts, row, what)
        lengths = [len(unicodedata.normalize("NFC", text)) for text in completions]
        return [
            max(-self.limit, 0.0 - float(b) / n) if n else -self.limit
            for b, n in zip(bits, lengths, strict=True)
        ]
