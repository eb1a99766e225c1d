"""Asking reward models about played episodes: all texts in one call of each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from textgym.agents.evaluation.play import Episode
from textgym.envs.replies import DIALOGUE_COLUMNS
from textgym.errors import RewardFailure
from textgym.reward_models.composition import PartScores, free_name, score_part
from textgym.rewards import Reward, reward_name


class PlayedTexts(NamedTuple):
    """What a reward model may ask for of b episodes.

    :param columns: of the prompts, and a dialogue's own, each of length b.
    :param completion_ids: the token ids that the player wrote.
    """

    prompts: list[str]
    completions: list[str]
    columns: dict[str, list[Any]]
    completion_ids: list[list[int]]

    @classmethod
    def of(cls, episodes: Sequence[Episode]) -> "PlayedTexts":
        """Of episodes, in their order."""
        rows = [dict(e.info.get("columns", {})) for e in episodes]
        names = {name: None for row in rows for name in row}
        columns = {name: [row.get(name) for row in rows] for name in names}
        for name in DIALOGUE_COLUMNS:
            if episodes and all(name in e.info for e in episodes):
                columns.setdefault(name, [e.info[name] for e in episodes])
        return cls(
            [e.prompt for e in episodes],
            [e.completion for e in episodes],
            columns,
            [e.tokens[e.acted + 1].tolist() for e in episodes],
        )

    def part(self, start: int, end: int) -> "PlayedTexts":
        """Some of them, in a row."""
        columns = {name: values[start:end] for name, values in self.columns.items()}
        return PlayedTexts(
            self.prompts[start:end],
            self.completions[start:end],
            columns,
            self.completion_ids[start:end],
        )


def ask_judge(
    judge: Reward,
    texts: PlayedTexts,
    *,
    step: int | None = None,
    timeout: float | None = None,
    retries: int = 0,
) -> PartScores:
    """What a reward model says of texts; where it raises, the text that it raises for is named.

    :param step, timeout, retries: as `textgym.rewards.call_reward`'s.
    :return: a score is NaN where it says nothing of a text.
    :raises RewardError: naming it, the prompt and the step.
    """

    def ask(part: PlayedTexts, retries: int = 0) -> PartScores:
        return score_part(judge, *part, step=step, timeout=timeout, retries=retries)

    try:
        return ask(texts, retries)
    except RewardFailure as error:
        if error.__cause__ is None:  # it hung: nobody knows at which text
            raise
        while len(texts.prompts) > 1:
            half = len(texts.prompts) // 2
            try:
                ask(texts.part(0, half))
            except RewardFailure:
                texts = texts.part(0, half)
            else:
                texts = texts.part(half, len(texts.prompts))
        ask(texts)
        raise


def named_judges(judges: Sequence[Reward], names: Sequence[str] | None = None) -> dict[str, Reward]:
    """Judges by name; where two have the same, the later one's gets `_2` (`_3`, …) added.

    :param names: one for each judge; None: their own.
    """
    named: dict[str, Reward] = {}
    for judge, name in zip(judges, names or map(reward_name, judges), strict=True):
        named[free_name(name, named)] = judge
    return named


def mean_scores(scores: Mapping[str, Sequence[float | None]]) -> dict[str, float]:
    """The mean over the texts that each judge says something of; NaN where it says nothing."""
    known = {name: [s for s in row if s is not None] for name, row in scores.items()}
    return {name: float(np.mean(row)) if row else float("nan") for name, row in known.items()}
