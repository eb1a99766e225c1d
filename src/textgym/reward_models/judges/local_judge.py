"""A language model on this machine as a reward model, by the log-odds of its answer words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.judges.opponents import Against, opponents
from textgym.reward_models.judges.rubric import Rubric
from textgym.reward_models.judges.word_models import WordModel
from textgym.rewards import RewardOutput

SCORE = "{prompt}{completion}\n\nAll in all, the text above is"
SCORE_CHAT = """\
A text begins with <prompt>{prompt}</prompt> and goes on with <completion>{completion}</completion>
Is it good or bad? Answer with one word, good or bad."""
PAIR = "Text A: {prompt}{first}\nText B: {prompt}{second}\n\nThe better text is Text"
PAIR_CHAT = """\
Text A: {prompt}{first}
Text B: {prompt}{second}
Which text is better? Answer with one letter, A or B."""


class LocalJudge:
    """log P(good word | rubric and text) − log P(bad word | rubric and text), in nats.

    With `against` two texts are compared: the mean over both orders of the log-odds of the word for
    the first text, so that a liking for the first place, whatever the texts, drops out. The
    component `judge_disagreed` is 1 where the order decided. Equal texts score 0.

    Nothing is drawn; a text's score depends on no other text.

    :param model: the language model, see `word_models`.
    :param rubric: a template or its file, with `{completion}` and maybe `{prompt}` and columns of
        the prompts; for pairs with `{first}` and `{second}`. Default: a general one.
    :param words: the two answers, the good one (or that for the first text) first. Default: good
        and bad, or A and B; with a space in front for a model that goes on with a text.
    :param against: a column of the prompts with the texts to compare with, or a function that gives
        them for a list of prompts.
    :param name: its name in logs.
    :raises InputError: for a rubric without its places, or not two different words.
    """

    def __init__(
        self,
        model: WordModel,
        rubric: str | Path | None = None,
        *,
        words: Sequence[str] | None = None,
        against: Against | None = None,
        name: str = "local_judge",
    ) -> None:
        self.model, self.against, self.name = model, against, name
        self.is_pairwise = against is not None
        if self.is_pairwise:
            default, places = (PAIR_CHAT if model.is_chat else PAIR), ["first", "second"]
        else:
            default, places = (SCORE_CHAT if model.is_chat else SCORE), ["completion"]
        self.rubric = Rubric(default if rubric is None else rubric, places)
        if words is None:
            space = "" if model.is_chat else " "
            words = [space + word for word in (("A", "B") if against else ("good", "bad"))]
        if isinstance(words, str) or len(words) != 2 or words[0] == words[1]:
            raise InputError(f"words must be two different answers, got {words!r:.60}")
        self.words = list(words)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> RewardOutput:
        """:returns: one float in nats per completion.

        :raises InputError: for a place of the rubric, or texts to compare with, that are missing,
            and for a text that the model's context has no room for.
        """
        if self.against is None:
            return RewardOutput(self._log_odds(prompts, columns, completion=completions).tolist())
        others = opponents(self.against, prompts, columns)
        there, back = self._both_orders(prompts, completions, others, columns)
        disagreed = (there * back > 0).astype(np.float64)  # the same place won both times
        return RewardOutput(((there - back) / 2).tolist(), {"judge_disagreed": disagreed.tolist()})

    def prefer(
        self,
        prompts: Sequence[str],
        first: Sequence[str],
        second: Sequence[str],
        **columns: Sequence[Any],
    ) -> list[float]:
        """σ of the mean log-odds: the probability that the first of two texts is the better one.

        :raises InputError: if the judge grades texts (it has no `against`), or as `__call__`.
        """
        if not self.is_pairwise:
            raise InputError(f"{self.name} grades single texts: give it against=... to compare two")
        there, back = self._both_orders(prompts, first, second, columns)
        return [float(value) for value in 1 / (1 + np.exp((back - there) / 2))]

    def _both_orders(
        self,
        prompts: Sequence[str],
        first: Sequence[str],
        second: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Log-odds [b] of the word for the first place, as they stand and the other way round."""
        log_odds = self._log_odds(
            [*prompts, *prompts],
            {name: [*values, *values] for name, values in columns.items()},
            first=[*first, *second],
            second=[*second, *first],
        )
        there, back = np.split(log_odds, 2)
        return there, back

    def _log_odds(
        self,
        prompts: Sequence[str],
        columns: Mapping[str, Sequence[Any]],
        **texts: Sequence[str],
    ) -> npt.NDArray[np.float64]:
        """float64 [b]."""
        named: dict[str, Sequence[Any]] = {**columns, "prompt": prompts, **texts}
        filled = [
            self.rubric.fill({name: values[i] for name, values in named.items()})
            for i in range(len(prompts))
        ]
        if not filled:
            return np.zeros(0)
        log_probs = self.model.word_log_probs(filled, self.words)
        return log_probs[:, 0] - log_probs[:, 1]
