"""How much of a reference stands in a completion: BLEU, chrF and ROUGE, each in [0, 1].

The figures are the libraries' own (sacrebleu, rouge-score), of one text at a time, divided by 100
where they speak in percent.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal

from textgym.errors import InputError
from textgym.extras import import_extra
from textgym.reward_models.rules.reference import ReferenceReward
from textgym.text_metrics.words import split_words

BleuTokens = Literal["auto", "13a", "intl", "zh", "char", "none"]
RougeKind = Literal["rouge1", "rouge2", "rougeL", "rougeLsum"]
Measure = Literal["fmeasure", "precision", "recall"]

_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
# Kana, Thai, Lao, Myanmar, Khmer: no spaces between words, and no tokenizer without a dictionary.
_OTHER_UNSPACED = re.compile("[\u3040-\u30ff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")


class Bleu(ReferenceReward):
    """Sentence BLEU as sacrebleu has it, in [0, 1].

    With effective order and exponential smoothing, so that short texts have a score.
    Source: Papineni et al. 2002, "BLEU"; Post 2018, "A Call for Clarity in Reporting BLEU Scores".

    :param reference, column: as `ReferenceReward`'s.
    :param tokenize: sacrebleu's tokenizer; "auto": by the reference's script, "zh" for Chinese,
        "char" for Japanese, Thai and others without spaces, else "13a".
    :param lowercase: case does not count.
    :raises InputError: without sacrebleu, for an unknown tokenizer or a blank reference.
    """

    name = "bleu"

    def __init__(
        self,
        reference: str | Sequence[str] | None = None,
        *,
        column: str = "reference",
        tokenize: BleuTokens = "auto",
        lowercase: bool = False,
    ) -> None:
        _check_word("tokenize", tokenize, BleuTokens)
        self.tokenize, self.lowercase = tokenize, lowercase
        self._library = import_extra("sacrebleu.metrics", extra="metrics", what="the bleu reward")
        self._scorers: dict[str, Any] = {}
        super().__init__(reference, column=column)

    def score(self, completion: str, references: Sequence[str]) -> float:
        """BLEU / 100."""
        scorer = self._scorer(tokenizer_for(references) if self.tokenize == "auto" else None)
        return _share(scorer.sentence_score(completion, list(references)).score)

    def _scorer(self, tokenizer: str | None) -> Any:
        name = tokenizer or self.tokenize
        if name not in self._scorers:
            self._scorers[name] = self._library.BLEU(
                lowercase=self.lowercase, tokenize=name, effective_order=True
            )
        return self._scorers[name]


class Chrf(ReferenceReward):
    """chrF as sacrebleu has it, an F-score of character n-grams, in [0, 1]; any language.

    Source: Popović 2015, "chrF: character n-gram F-score for automatic MT evaluation".

    :param reference, column: as `ReferenceReward`'s.
    :param word_order: 2 is chrF++.
    :param lowercase: case does not count.
    :raises InputError: without sacrebleu, for a negative order or a blank reference.
    """

    name = "chrf"

    def __init__(
        self,
        reference: str | Sequence[str] | None = None,
        *,
        column: str = "reference",
        word_order: int = 0,
        lowercase: bool = False,
    ) -> None:
        if word_order < 0:
            raise InputError(f"word_order must be 0 or above, got {word_order!r}: 2 is chrF++")
        library = import_extra("sacrebleu.metrics", extra="metrics", what="the chrf reward")
        self._scorer = library.CHRF(word_order=word_order, lowercase=lowercase)
        super().__init__(reference, column=column)

    def score(self, completion: str, references: Sequence[str]) -> float:
        """ChrF / 100."""
        return _share(self._scorer.sentence_score(completion, list(references)).score)


class Rouge(ReferenceReward):
    """ROUGE as rouge-score has it, in [0, 1], on this package's words.

    The library's own tokenizer keeps a-z and 0-9 only, so that by itself identical Chinese scores
    0; here each Chinese character is a word. Of several references the best one counts.
    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries".

    :param reference, column: as `ReferenceReward`'s.
    :param kind: "rouge1", "rouge2", "rougeL" or "rougeLsum" (line by line).
    :param measure: "fmeasure", "precision" or "recall".
    :raises InputError: without rouge-score, for another word, or a reference without a word.
    """

    name = "rouge"

    def __init__(
        self,
        reference: str | Sequence[str] | None = None,
        *,
        column: str = "reference",
        kind: RougeKind = "rougeL",
        measure: Measure = "fmeasure",
    ) -> None:
        _check_word("kind", kind, RougeKind)
        _check_word("measure", measure, Measure)
        self.kind, self.measure = kind, measure
        library = import_extra("rouge_score.rouge_scorer", extra="metrics", what="the rouge reward")
        self._scorer = library.RougeScorer([kind], tokenizer=_Words())
        super().__init__(reference, column=column)

    def check(self, references: Sequence[str]) -> None:
        """Raises ValueError for a reference without a word."""
        check_words(references)

    def score(self, completion: str, references: Sequence[str]) -> float:
        """The best of the references."""
        scores = (self._scorer.score(text, completion)[self.kind] for text in references)
        return max(float(getattr(score, self.measure)) for score in scores)


class _Words:
    """Our words, as rouge-score asks for a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        """The words of a text in lower case."""
        return split_words(text)


def tokenizer_for(references: Sequence[str]) -> BleuTokens:
    """sacrebleu's tokenizer for the script of the references."""
    text = " ".join(references)
    if _OTHER_UNSPACED.search(text):
        return "char"
    return "zh" if _HAN.search(text) else "13a"


def check_words(references: Sequence[str]) -> None:
    """Raises ValueError unless each reference holds a word."""
    if not all(split_words(text) for text in references):
        raise ValueError("expected a text with a word in it: fill it in, or drop the row")


def _check_word(name: str, value: object, allowed: Any) -> None:
    known = allowed.__args__
    if value not in known:
        words = ", ".join(map(repr, known))
        raise InputError(f"{name} must be one of {words}, got {value!r:.60}")


def _share(percent: float) -> float:
    return min(1.0, max(0.0, float(percent) / 100))
