"""Word and character error rate as rewards in [-1, 1]: max(-1, 1 - rate).

The rate is jiwer's: substitutions, deletions and insertions over the reference's length. It passes
1 where much was added, so that the score has a floor.
"""

import unicodedata
from collections.abc import Sequence

from textgym.extras import import_extra
from textgym.reward_models.rules.overlap import check_words
from textgym.reward_models.rules.reference import ReferenceReward
from textgym.text_metrics.words import split_words


class WordErrorRate(ReferenceReward):
    """max(-1, 1 - word error rate): 1 for the reference's words, in [-1, 1].

    Words as everywhere here: case and punctuation do not count, a Chinese character is a word. Of
    several references the nearest counts.

    :param reference, column: as `ReferenceReward`'s.
    :raises InputError: without jiwer, or for a reference without a word.
    """

    name = "word_error_rate"

    def __init__(
        self, reference: str | Sequence[str] | None = None, *, column: str = "reference"
    ) -> None:
        self._library = import_extra("jiwer", extra="metrics", what=f"the {self.name} reward")
        super().__init__(reference, column=column)

    def check(self, references: Sequence[str]) -> None:
        """Raises ValueError for a reference without a word."""
        check_words(references)

    def score(self, completion: str, references: Sequence[str]) -> float:
        """Of the nearest reference."""
        said = " ".join(split_words(completion))
        rates = (self._library.wer(" ".join(split_words(text)), said) for text in references)
        return max(-1.0, 1.0 - float(min(rates)))


class CharacterErrorRate(ReferenceReward):
    """max(-1, 1 - character error rate): 1 for the reference itself, in [-1, 1].

    Characters are code points of the composed text (NFC), case, punctuation and inner spaces
    included; spaces at the two ends do not count. Of several references the nearest counts.

    :param reference, column: as `ReferenceReward`'s.
    :raises InputError: without jiwer, or for a blank reference.
    """

    name = "character_error_rate"

    def __init__(
        self, reference: str | Sequence[str] | None = None, *, column: str = "reference"
    ) -> None:
        self._library = import_extra("jiwer", extra="metrics", what=f"the {self.name} reward")
        super().__init__(reference, column=column)

    def score(self, completion: str, references: Sequence[str]) -> float:
        """Of the nearest reference."""
        said = unicodedata.normalize("NFC", completion).strip()
        wanted = (unicodedata.normalize("NFC", text).strip() for text in references)
        return max(-1.0, 1.0 - float(min(self._library.cer(text, said) for text in wanted)))
