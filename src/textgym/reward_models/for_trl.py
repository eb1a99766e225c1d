"""Reward models of ours as rewards for TRL's trainers."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from textgym.reward_arguments import TOKEN_IDS
from textgym.rewards import Reward, call_reward, check_reward, reward_name
from textgym.trl_rewards import EXTRAS, from_trl

__all__ = ["from_trl", "to_trl"]


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
