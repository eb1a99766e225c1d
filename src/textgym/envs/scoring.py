"""Scores of finished texts: the reward model is asked at once, or about many texts together.

A reward model that is asked about sixty texts in one call takes a fraction of the time of thirty
calls with two. Whoever learns from whole rollouts therefore lets the texts wait (`Scores.open`) and
has them scored when the rollout is over (`Scores.settle`); everybody else gets the score at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textgym.envs.calls_beside import CallsBeside
from textgym.envs.dense_rewards import token_rewards
from textgym.envs.task import Task
from textgym.envs.turns import Turn
from textgym.errors import RewardError, RewardFailure
from textgym.reward_arguments import TOKEN_IDS, signature_of
from textgym.rewards import RewardOutput, call_reward

# Characters that may wait: some 200 MB where each is a token, whose ids are kept beside them.
MOST_WAITING = 2**22


@dataclass(eq=False)
class FinishedText:
    """A text whose episode has ended, and where its score goes.

    :param ending: the info of its last step; `reward_components` and `token_rewards` are filled in.
    :param prompt, completion: the texts.
    :param columns: the prompt's columns.
    :param turns: the completion's parts.
    :param step: of the environment, when it ended.
    :param paid: what its last step pays beside the score.
    :param reward: float64, what its last step pays in all; NaN until it is scored.
    :param listeners: called with this text as soon as it is scored.
    """

    ending: dict[str, Any]
    prompt: str
    completion: str
    columns: Mapping[str, Any]
    turns: Sequence[Turn]
    step: int
    paid: float = 0.0
    reward: float = float("nan")
    listeners: list[Callable[["FinishedText"], None]] = field(default_factory=list)

    @property
    def characters(self) -> int:
        """Of both texts."""
        return len(self.prompt) + len(self.completion)

    @property
    def ids(self) -> list[int]:
        """The token ids that the player wrote."""
        return [i for turn in self.turns if turn.ids is not None for i in turn.ids]

    def keep_ids(self) -> None:
        """Copy the turns' `before`, which look into rows that change while the text waits."""
        self.turns = [
            turn._replace(before=np.array(turn.before, dtype=np.int32)) for turn in self.turns
        ]


class Scores:
    """Asks a task's reward model about finished texts.

    :param task: whose reward model, timeout and retries count.

    `is_open`: texts that end wait, and their last step pays 0 until `settle`. `latest` maps the
    rows whose text began to wait in the last step to it. A copy asks again about texts that wait.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.is_open = False
        self.waiting: list[FinishedText] = []
        self._characters = 0  # of the texts that wait
        self.latest: dict[int, FinishedText] = {}
        self._signature = signature_of(task.reward)
        self._has_failed = False
        self._beside = self._new_calls()

    def _new_calls(self) -> CallsBeside[FinishedText, RewardOutput] | None:
        workers = self.task.calls_beside
        return CallsBeside(self._answer, workers) if workers else None

    def open(self) -> None:
        """From here on texts wait for `settle`.

        :raises RewardError: where texts still wait whose scoring has failed, and fails again: no
            rollout begins without the scores of the last.
        """
        self.settle()
        self.is_open = True

    def close(self) -> None:
        """From here on texts are scored at once; those that wait go on waiting.

        Texts whose scoring has failed are given up: whoever starts anew is not to fail again.
        """
        self.is_open = False
        if self._has_failed:
            self.waiting, self._characters, self._has_failed = [], 0, False
            self._beside = self._new_calls()

    def await_scores(self, latest: dict[int, FinishedText]) -> None:
        """Have the texts of a step, by row, wait."""
        self.latest = latest
        if latest:
            self.waiting += latest.values()
            self._characters += sum(text.characters for text in latest.values())
            if self._beside is not None:
                self._beside.submit([*latest.values()])

    @property
    def is_full(self) -> bool:
        """Whether so much text waits that it should be scored before the rollout is over."""
        return self._characters > MOST_WAITING

    def settle(self) -> None:
        """Ask about all texts that wait, and tell their listeners.

        That is one call, or as many as were begun beside the rollout.

        :raises RewardError: from the reward model. The texts that it failed for go on waiting, and
            those that end later are scored at once.
        """
        if not self.waiting:
            return
        try:
            answers = [] if self._beside is None else self._beside.collect()
            is_asked = {id(text) for texts, _ in answers for text in texts}
            missing = [text for text in self.waiting if id(text) not in is_asked]
            if missing:
                answers.append((missing, self._outcome(missing)))
            for texts, output in answers:
                if not isinstance(output, BaseException):
                    self._tell(texts, output)
            self.waiting = [text for text in self.waiting if text.reward != text.reward]
            self._characters = sum(text.characters for text in self.waiting)
            order = {id(text): i for i, text in enumerate(self.waiting)}
            for _, output in sorted(answers, key=lambda answer: order.get(id(answer[0][0]), -1)):
                if isinstance(output, BaseException):
                    raise output
        except BaseException:
            self.is_open, self._has_failed = False, True
            raise
        self._has_failed = False

    def _tell(self, texts: Sequence[FinishedText], output: RewardOutput) -> None:
        self._fill(texts, output)
        for text in texts:
            for listener in text.listeners:
                listener(text)

    def ask(self, texts: Sequence[FinishedText]) -> None:
        """Score texts now: fills `reward`, and what the model says beside it in `ending`.

        :raises RewardError: from the reward model; nothing has changed then.
        """
        self._fill(texts, self._answer(texts))

    def _fill(self, texts: Sequence[FinishedText], output: RewardOutput) -> None:
        for i, text in enumerate(texts):
            text.reward = float(text.paid + output.scores[i])  # type: ignore[operator]
            for name, values in output.components.items():
                if values[i] == values[i]:  # NaN: the part does not apply to this text
                    text.ending["reward_components"][name] = float(values[i])
            if output.extra:
                own = {name: values[i] for name, values in output.extra.items()}
                text.ending["reward_extra"] = own
            if output.spans is not None:
                text.ending["token_rewards"] = token_rewards(
                    text.reward,
                    output.spans[i],
                    [(turn.text, turn.ids) for turn in text.turns],
                    self.task.tokenizer,
                    [turn.before for turn in text.turns],
                )

    def _outcome(self, texts: Sequence[FinishedText]) -> RewardOutput | RewardError:
        """As `_answer`, with an error as the answer."""
        try:
            return self._answer(texts)
        except RewardError as error:
            return error

    def _answer(self, texts: Sequence[FinishedText]) -> RewardOutput:
        """The reward model's checked answer; an error names the text that it is about."""
        try:
            return self._call(texts, self.task.reward_retries)
        except RewardFailure as error:
            if error.__cause__ is not None and len(texts) > 1:  # it raised; else it hung
                self._raise_for_its_own(texts)
            raise

    def _call(self, texts: Sequence[FinishedText], retries: int = 0) -> RewardOutput:
        names = {name: None for text in texts for name in text.columns}
        wants_ids = TOKEN_IDS in self._signature.names
        return call_reward(
            self.task.reward,
            [text.prompt for text in texts],
            [text.completion for text in texts],
            {name: [text.columns.get(name) for text in texts] for name in names},
            completion_ids=[text.ids for text in texts] if wants_ids else None,
            step=[text.step for text in texts],
            timeout=self.task.reward_timeout,
            retries=retries,
            signature=self._signature,
        )

    def _raise_for_its_own(self, texts: Sequence[FinishedText]) -> None:
        """Halve a batch that the reward model raised for, until one text is left to be named."""
        while len(texts) > 1:
            half = len(texts) // 2
            try:
                self._call(texts[:half])
            except RewardFailure:
                texts = texts[:half]
            else:
                texts = texts[half:]
        self._call(texts)
