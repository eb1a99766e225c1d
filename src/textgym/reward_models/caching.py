"""A reward model that is asked once about a text, however often it comes."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from textgym.errors import InputError
from textgym.reward_arguments import TEXTS, TOKEN_IDS, signature_of
from textgym.reward_models.composition import score_part
from textgym.rewards import Reward, RewardOutput, check_reward, reward_name
from textgym.states import exact_json, has_state


class _Answer(NamedTuple):
    """What a reward model said of one text; a score of NaN is None."""

    score: float
    components: dict[str, float]
    spans: Sequence[tuple[int, int, float]] | None
    extra: dict[str, Any]


class Cached:
    """A reward model whose answers are remembered; a text that comes again is not asked about.

    For one that is slow or dear, and scores each text by itself, the same every time: an answer is
    found by prompt, completion, and the columns that the model asks for (by `completion_ids` too if
    it names them). Texts with a column that JSON does not hold are asked about each time. The
    memory is no state: a run that goes on begins with an empty one.

    `asked` counts the texts that it was asked about, `found` those that were remembered.

    :param reward: a reward model.
    :param size: answers that are kept; the one that was used longest ago goes first.
    :raises InputError: for a reward model with a state (its answers change), or a size below 1.
    """

    def __init__(self, reward: Reward, *, size: int = 100_000) -> None:
        self.reward = check_reward(reward)
        self.name = reward_name(self.reward)
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"size must be a whole number, at least 1, got {size!r:.40}")
        if has_state(self.reward):
            raise InputError(
                f"{self.name} keeps a state, so that its answers change: put Cached around what is "
                "inside it"
            )
        self.size = size
        self.asked = self.found = 0
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._takes = signature_of(self.reward)

    @property
    def inner_rewards(self) -> list[Reward]:
        """The inner model."""
        return [self.reward]

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        *,
        completion_ids: Sequence[Sequence[int]] | None = None,
        **columns: Sequence[Any],
    ) -> RewardOutput:
        """:returns: the reward model's answers, old and new.

        :raises RewardError: naming the reward model whose answer breaks the contract.
        """
        supplied = {"prompts": prompts, "completions": completions, **columns}
        if completion_ids is not None:
            supplied[TOKEN_IDS] = completion_ids
        keys = [self._key(supplied, row) for row in range(len(completions))]
        found = [None if key is None else self._answers.get(key) for key in keys]
        first: dict[str, int] = {}
        for row, key in enumerate(keys):
            if found[row] is None:
                first.setdefault(f"\0{row}" if key is None else key, row)
        new = self._ask(list(first.values()), supplied)
        by_key = dict(zip(first, new, strict=True))
        answers = [
            known or by_key[f"\0{row}" if key is None else key]
            for row, (key, known) in enumerate(zip(keys, found, strict=True))
        ]
        self.asked += len(new)
        self.found += len(completions) - len(new)
        self._keep(keys, answers)
        return _joined(answers)

    def _key(self, supplied: dict[str, Sequence[Any]], row: int) -> str | None:
        takes = {
            name: list(values[row]) if name == TOKEN_IDS else values[row]
            for name, values in supplied.items()
            if name in TEXTS
            or name in self._takes.names
            or (self._takes.takes_more and name != TOKEN_IDS)
        }
        return exact_json(takes)

    def _ask(self, rows: Sequence[int], supplied: dict[str, Sequence[Any]]) -> list[_Answer]:
        if not rows:
            return []
        some = {name: [values[row] for row in rows] for name, values in supplied.items()}
        texts = some.pop("prompts"), some.pop("completions")
        answer = score_part(self.reward, *texts, some, some.pop(TOKEN_IDS, None))
        return [
            _Answer(
                float(answer.scores[place]),
                {name: float(values[place]) for name, values in answer.components.items()},
                None if answer.spans is None else answer.spans[place],
                {name: values[place] for name, values in answer.extra.items()},
            )
            for place in range(len(rows))
        ]

    def _keep(self, keys: Sequence[str | None], answers: Sequence[_Answer]) -> None:
        for key, answer in zip(keys, answers, strict=True):
            if key is not None:
                self._answers[key] = answer
                self._answers.move_to_end(key)
        while len(self._answers) > self.size:
            self._answers.popitem(last=False)


def _joined(answers: Sequence[_Answer]) -> RewardOutput:
    """Answers to single texts as one."""
    names = list(dict.fromkeys(name for answer in answers for name in answer.components))
    columns = list(dict.fromkeys(name for answer in answers for name in answer.extra))
    has_spans = any(answer.spans is not None for answer in answers)
    return RewardOutput(
        [None if np.isnan(answer.score) else answer.score for answer in answers],
        {name: [answer.components.get(name, np.nan) for answer in answers] for name in names},
        [answer.spans or () for answer in answers] if has_spans else None,
        {name: [answer.extra.get(name) for answer in answers] for name in columns},
    )
