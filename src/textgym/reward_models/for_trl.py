"""Rewards written for TRL as reward models, and reward models of ours for TRL's trainers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from textgym.reward_arguments import TOKEN_IDS
from textgym.rewards import Reward, call_reward, check_reward, reward_name
from textgym.trl_rewards import EXTRAS, FromTRL


def from_trl(
    reward: Callable[..., Any], *, chat: bool | None = None, none: float | None = None
) -> FromTRL:
    """A reward that was written for TRL as a reward model: it is called as TRL calls it.

    It gets by keyword what it names, and all of it if it takes `**kwargs`: `prompts`,
    `completions`, `completion_ids` (where an episode was played), the prompts' columns,
    `trainer_state`, `log_extra(column, values)` and `log_metric(name, value)`. An `async def` one
    is awaited. Truth values count as 1 and 0. What it logs is a component of its answer
    (`reward_components/NAME`): a metric, and a column of numbers. A column of anything else goes
    to the run's `reward_extra.jsonl`, beside its text.

    :param chat: whether a text is a list of messages, `[{"role": "assistant", "content": text}]`,
        and a prompt `[{"role": "user", "content": prompt}]`; a dialogue has a message a turn.
        None: if the annotation of its `completions` or `prompts` says that they hold mappings.
    :param none: the score of a text for which it answers None. Without it, None is None: "does not
        apply", which counts only inside a weighted sum.
    :raises InputError: if `reward` cannot be called.
    """
    return FromTRL(reward, chat=chat, none=none)


def to_trl(reward: Reward) -> Callable[..., list[float | None]]:
    """A reward model of ours as a reward for TRL's trainers, for texts or for chat messages.

    The contents of a completion's messages are joined, and so are a prompt's. Where TRL passes
    `log_metric`, the mean of each component is logged as `NAME/COMPONENT`, over the texts to which
    it applies.

    :param reward: any reward model; one that only takes plain texts and returns a list, such as
        the built-in rules, runs there without this.
    :raises InputError: if `reward` cannot be called.
    """
    asked = check_reward(reward)
    name = reward_name(asked)

    def ask(
        prompts: Sequence[Any], completions: Sequence[Any], **columns: Any
    ) -> list[float | None]:
        log_metric = columns.get("log_metric")
        ids = columns.pop(TOKEN_IDS, None)
        known = {key: value for key, value in columns.items() if key not in EXTRAS}
        texts = [_text(prompt) for prompt in prompts], [_text(text) for text in completions]
        answer = call_reward(asked, *texts, known, completion_ids=ids)
        if log_metric is not None:
            for component, values in answer.components.items():
                applies = [value for value in values if value == value]
                if applies:
                    log_metric(f"{name}/{component}", float(np.mean(applies)))
        return [float(score) for score in answer.scores]  # type: ignore[arg-type]

    ask.__name__ = name
    return ask


def _text(messages: Any) -> str:
    """A text, or the contents of messages one after the other."""
    if isinstance(messages, str):
        return messages
    return "".join(str(message.get("content") or "") for message in messages)
