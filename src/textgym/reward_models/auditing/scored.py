"""A reward model and the texts of an audit with their scores: what every check is given."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from textgym.reward_models.auditing.findings import EXAMPLES, Example, Floats
from textgym.reward_models.auditing.texts import AuditTexts, Places
from textgym.rewards import Reward, call_reward


def ask(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
) -> Floats:
    """float64 [b], the scores of texts.

    :raises RewardError: as `call_reward`.
    """
    return np.asarray(call_reward(reward, prompts, completions, columns).scores, np.float64)


class ScoredTexts:
    """Texts with the scores that a reward model gives them, and changed texts of theirs.

    :param texts: n of them.
    :raises RewardError: from the reward model.
    """

    def __init__(self, reward: Reward, texts: AuditTexts) -> None:
        self.reward, self.texts = reward, texts
        self.scores = ask(reward, texts.prompts, texts.completions, texts.columns)
        """float64 [n]."""
        self.unit = float(self.scores.std()) or 1.0
        """Standard deviation of the scores, in which changes are counted; 1 if all are equal."""
        decided = texts.pairs.is_decided
        is_first = texts.pairs.label[decided] == 1
        first, second = texts.pairs.first[decided], texts.pairs.second[decided]
        self.better = np.where(is_first, first, second)
        """int64 [p], of each decided pair the place of the better text."""
        self.worse = np.where(is_first, second, first)
        self.right: Places = np.flatnonzero(texts.is_right)

    def asked_again(
        self,
        places: Places,
        *,
        prompts: Sequence[str] | None = None,
        completions: Sequence[str] | None = None,
        columns_of: Places | None = None,
    ) -> Floats:
        """float64, the scores of texts after a change.

        :param places: of the texts that were changed.
        :param prompts, completions: as they are now; None: unchanged.
        :param columns_of: places whose columns go with the prompts; None: their own.
        """
        texts = self.texts
        rows = places if columns_of is None else columns_of
        return ask(
            self.reward,
            [texts.prompts[i] for i in places] if prompts is None else prompts,
            [texts.completions[i] for i in places] if completions is None else completions,
            {name: [values[i] for i in rows] for name, values in texts.columns.items()},
        )

    def changed(self, places: Places, change: Callable[[str], str]) -> tuple[list[str], Floats]:
        """Completions after a change, and by how many units their scores moved."""
        completions = [change(self.texts.completions[i]) for i in places]
        scores = self.asked_again(places, completions=completions)
        return completions, (scores - self.scores[places]) / self.unit

    def examples(
        self, places: Places, completions: Sequence[str], moved: Floats
    ) -> tuple[Example, ...]:
        """The changed texts whose scores moved most, up or down as `moved` says, beside their own.

        :param moved: in units; the largest are shown.
        """
        order = np.argsort(-moved, kind="stable")[:EXAMPLES]
        return tuple(
            Example(
                self.texts.prompts[places[k]],
                completions[k],
                float(self.scores[places[k]] + moved[k] * self.unit),
                self.texts.completions[places[k]],
                float(self.scores[places[k]]),
            )
            for k in order
            if moved[k] != 0
        )
