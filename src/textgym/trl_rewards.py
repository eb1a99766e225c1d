"""Rewards written for TRL as reward models.

TRL calls a reward function by keyword, and beside the texts it passes things that the contract here
has not: `trainer_state`, `log_extra` and `log_metric`; and of chat data, lists of messages in the
place of texts. `FromTRL` gives a reward all that (`textgym.reward_models.from_trl`).
"""

import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from textgym.async_rewards import AsyncReward, is_async
from textgym.errors import InputError, RewardError
from textgym.messages import message
from textgym.reward_answers import RewardOutput
from textgym.reward_arguments import TEXTS, TOKEN_IDS, match_arguments, signature_of
from textgym.reward_parts import every_part
from textgym.states import load_state_of, state_of

EXTRAS = ("trainer_state", "log_extra", "log_metric")

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class TrainerState:
    """How far a training is, with the names of `transformers.TrainerState`.

    :param global_step: updates so far (a rollout that was learned from is one).
    :param max_steps: updates of the whole budget: exact for algorithms whose rollouts have a fixed
        number of tokens, for others what the updates so far say, and 1 before the first.
    :param epoch: share of the budget that is used, 0 to 1.
    :param num_input_tokens_seen: completion tokens so far, which is the step of our logs.
    """

    global_step: int = 0
    max_steps: int = 1
    epoch: float = 0.0
    num_input_tokens_seen: int = 0
    num_train_epochs: int = 1
    log_history: list[dict[str, float]] = field(default_factory=list)
    is_world_process_zero: bool = True
    is_local_process_zero: bool = True


class FromTRL:
    """A reward written for TRL as a reward model; see `textgym.reward_models.from_trl`.

    `trainer_state` is what the reward gets next under that name; training keeps it up to date.
    """

    def __init__(
        self, reward: Callable[..., Any], *, chat: bool | None = None, none: float | None = None
    ) -> None:
        if not callable(reward) or isinstance(reward, type):
            raise InputError(f"from_trl takes a reward function, got {reward!r:.60}")
        if none is not None and not (isinstance(none, int | float) and math.isfinite(none)):
            raise InputError(f"none must be a finite number or None, got {none!r:.60}")
        inner = getattr(reward, "func", reward)  # of a functools.partial
        self.name = str(getattr(inner, "__name__", None) or type(inner).__name__)
        self.chat = expects_chat(reward) if chat is None else chat
        self.none = none
        self.is_async = is_async(reward)
        self.reward = AsyncReward(reward, self.name) if self.is_async else reward
        self.trainer_state = TrainerState()
        self._takes = signature_of(self.reward)
        self.__signature__ = _contract_signature(self.reward, self.chat)

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]
    ) -> Any:
        """:returns: a `textgym.RewardOutput`.

        :raises RewardError: for a log that is not what TRL takes.
        """
        logged = _Logged(self.name, len(completions))
        turns = columns.get("turns")
        supplied: dict[str, Any] = {**columns}
        if self.chat:
            supplied["prompts"] = [message("user", prompt) for prompt in prompts]
            supplied["completions"] = [
                message("assistant", text) if turns is None else _messages(turns[row])
                for row, text in enumerate(completions)
            ]
        else:
            supplied |= {"prompts": prompts, "completions": completions}
        supplied |= {
            "trainer_state": self.trainer_state,
            "log_extra": logged.extra,
            "log_metric": logged.metric,
        }
        arguments, keywords = match_arguments(self._takes, supplied)
        answer = self.reward(*arguments, **keywords)
        if isinstance(answer, list | tuple):
            answer = [self._score(score) for score in answer]
        return RewardOutput(answer, logged.components(), extra=logged.columns)

    def state_dict(self) -> Any:
        """The reward's own state; None where it has none."""
        return state_of(self.reward, self.name)

    def load_state_dict(self, state: Any) -> None:
        """Go on from a state of `state_dict`.

        :raises InputError: if it is none.
        """
        load_state_of(self.reward, state, self.name)

    def _score(self, score: Any) -> Any:
        if score is None:
            return self.none
        return float(score) if isinstance(score, bool | np.bool_) else score


class _Logged:
    """What a reward logs during one call about b texts."""

    def __init__(self, name: str, length: int) -> None:
        self.name, self.length = name, length
        self.columns: dict[str, list[Any]] = {}
        self._numbers: dict[str, list[float]] = {}
        self._metrics: dict[str, list[float]] = {}

    def extra(self, column: str, values: Sequence[Any]) -> None:
        """TRL's `log_extra`: a value for each text."""
        rows = values.tolist() if hasattr(values, "tolist") else list(values)
        if not isinstance(column, str) or len(rows) != self.length:
            raise RewardError(
                f"reward model {self.name!r} called log_extra({column!r:.40}) with {len(rows)} "
                f"values for {self.length} texts: expected a name and a value for each text"
            )
        if all(row is None or isinstance(row, bool | int | float) for row in rows):
            self._numbers[column] = [_number_or_nan(row) for row in rows]
        else:
            self.columns[column] = rows

    def metric(self, name: str, value: Any) -> None:
        """TRL's `log_metric`: a number for the batch; several of a name are averaged."""
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not isinstance(name, str) or not math.isfinite(number):
            raise RewardError(
                f"reward model {self.name!r} called log_metric({name!r:.40}, {value!r:.40}): "
                "expected a name and a finite number"
            )
        self._metrics.setdefault(name, []).append(number)

    def components(self) -> dict[str, list[float]]:
        """Both as components, b numbers each; a metric is the same for all texts."""
        means = {name: sum(values) / len(values) for name, values in self._metrics.items()}
        return {**self._numbers, **{name: [mean] * self.length for name, mean in means.items()}}


def is_for_trl(reward: Callable[..., Any]) -> bool:
    """Whether a signature says that only TRL's way of calling it will do.

    It names `trainer_state`, `log_extra` or `log_metric`, or its annotations say that texts are
    lists of messages.
    """
    return bool({*EXTRAS} & {*signature_of(reward).names}) or expects_chat(reward)


def expects_chat(reward: Callable[..., Any]) -> bool:
    """Whether the annotation of `completions` or `prompts` says that they hold mappings."""
    function = getattr(reward, "func", reward)  # of a functools.partial
    if not inspect.isroutine(function):
        function = type(function).__call__
    annotations = getattr(function, "__annotations__", {})
    return any(_holds_mappings(annotations.get(name)) for name in TEXTS)


def chat_hint(error: BaseException) -> str:
    """For the error of a reward that took a text for messages, or messages for a text."""
    text = str(error)
    if isinstance(error, TypeError | IndexError | AttributeError) and (
        text.startswith(("string indices must be", "string index out of range"))
        or text.startswith("'str' object has no attribute")
    ):
        return " (if it expects chat messages: textgym.reward_models.from_trl(reward, chat=True))"
    return ""


def set_trainer_state(reward: object, state: TrainerState) -> None:
    """Give `state` to a reward model, and to all inside it, that was written for TRL."""
    for part in every_part(reward):
        if isinstance(part, FromTRL):
            part.trainer_state = state


def trainer_state_of(reward: object) -> TrainerState | None:
    """What `set_trainer_state` gave; None where nothing in it was written for TRL."""
    parts = (part for part in every_part(reward) if isinstance(part, FromTRL))
    return next((part.trainer_state for part in parts), None)


def _holds_mappings(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return bool({"dict", "mapping"} & {*re.findall(r"\w+", annotation.lower())})
    origin = typing.get_origin(annotation) or annotation
    if isinstance(origin, type) and issubclass(origin, Mapping):  # a TypedDict is a dict too
        return True
    return any(_holds_mappings(part) for part in typing.get_args(annotation))


def _contract_signature(reward: Callable[..., Any], chat: bool) -> inspect.Signature:
    """What the contract's seam is to see: the texts, and what the reward asks for beside them."""
    parameter = inspect.Parameter
    found = [parameter(name, parameter.POSITIONAL_OR_KEYWORD) for name in TEXTS]
    given = inspect.signature(reward).parameters.values()
    takes_more = any(p.kind is p.VAR_KEYWORD for p in given)
    wanted = {
        p.name: parameter(p.name, parameter.KEYWORD_ONLY, default=p.default)
        for p in given
        if p.kind in _BY_NAME and p.name not in (*TEXTS, *EXTRAS)
    }
    supplied = (TOKEN_IDS,) * takes_more + ("turns",) * chat
    for name in supplied:
        wanted.setdefault(name, parameter(name, parameter.KEYWORD_ONLY, default=None))
    found += wanted.values()
    if takes_more:
        found.append(parameter("columns", parameter.VAR_KEYWORD))
    return inspect.Signature(found)


def _messages(turns: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """A dialogue's turns: the player's are the assistant's."""
    roles = ("assistant" if turn["who"] == "player" else "user" for turn in turns)
    return [{"role": role, "content": t["text"]} for role, t in zip(roles, turns, strict=True)]


def _number_or_nan(value: float | None) -> float:
    return math.nan if value is None else float(value)
