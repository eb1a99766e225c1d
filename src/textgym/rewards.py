"""The reward contract, and the one way in which a reward model is called.

A reward model is any callable

    reward(prompts, completions, **columns) -> Sequence[float | None] | RewardOutput

that takes a batch of texts and gives one number per text: a function, or an object with `__call__`
and a `name`. `call_reward` is that way: what it returns is float64, finite and of the right length,
or a `RewardError` says whose answer was wrong, for which prompt, and when.
"""

import copy
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from textgym.async_rewards import AsyncReward, is_async
from textgym.errors import InputError, RewardError, RewardFailure
from textgym.reward_answers import (
    Asked,
    check_components,
    check_extra,
    check_scores,
    check_spans,
)
from textgym.reward_answers import RewardOutput as RewardOutput
from textgym.reward_arguments import (
    TEXTS,
    TOKEN_IDS,
    Signature,
    match_arguments,
    meanings,
    signature_of,
)
from textgym.trl_rewards import FromTRL, chat_hint, is_for_trl

Reward = Callable[..., Any]

_ATOMS = (str, int, float, bool, bytes, type(None))


def reward_name(reward: object) -> str:
    """How a reward model is called in logs and errors: its `name`, else its `__name__`."""
    for attribute in ("name", "__name__"):
        name = getattr(reward, attribute, None)
        if isinstance(name, str) and name:
            return name
    return type(reward).__name__


def call_reward(
    reward: Reward,
    prompts: Sequence[str],
    completions: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    *,
    completion_ids: Sequence[Sequence[int]] | None = None,
    step: int | Sequence[int] | None = None,
    timeout: float | None = None,
    retries: int = 0,
    signature: Signature | None = None,
) -> RewardOutput:
    """Ask a reward model about b texts and check its answer.

    Its arguments are matched by name (see `reward_arguments`), and are copies: it may use them up.
    A working directory, or torch's gradients, that it leaves changed are set back, with a warning.

    :param columns: further columns of the prompts, each of length b.
    :param completion_ids: the token ids that the player wrote, each a list; for a reward model that
        names them, unless a column has that name.
    :param step: the environment step, for the error; or the step of each text.
    :param timeout: seconds. The model then runs in a daemon thread. Python cannot stop a thread:
        one that hangs goes on until the process ends, so the error is meant to be fatal.
    :param retries: how often it is asked again after it raised or hung; a warning says so.
    :param signature: the model's `signature_of`, from who asks often.
    :return: `scores` float64 [b], `components` float64 [b] each (NaN: does not apply), `spans` and
        `extra`.
    :raises RewardFailure: if the model raises (whatever it is, but for an interrupt) or hangs.
    :raises RewardError: if it returns what the contract forbids, or asks for what nobody supplies.
    """
    where = Asked(reward_name(reward), prompts, step)
    signature = signature_of(reward) if signature is None else signature

    def ask() -> object:
        supplied: dict[str, list[Any]] = {
            "prompts": list(prompts),
            "completions": list(completions),
        }
        if completion_ids is not None and TOKEN_IDS in signature.names:
            supplied[TOKEN_IDS] = [list(ids) for ids in completion_ids]
        for name, values in columns.items():
            supplied[name] = [fresh(value) for value in values]
        try:
            arguments, keywords = match_arguments(signature, supplied)
        except InputError as error:
            raise where.error(str(error)) from None
        return reward(*arguments, **keywords)

    for attempt in range(retries + 1):
        try:
            answer = _ask_once(ask, timeout, where)
            break
        except RewardFailure as error:
            if attempt == retries:
                raise
            warnings.warn(f"{error}: asked again ({attempt + 1} of {retries})", stacklevel=2)
    output = answer if isinstance(answer, RewardOutput) else RewardOutput(answer)  # type: ignore[arg-type]
    scores = check_scores(output.scores, len(completions), where, "", is_none_allowed=False)
    components = check_components(output.components, len(completions), where)
    spans = check_spans(output.spans, completions, where)
    extra = check_extra(output.extra, len(completions), where) if output.extra else {}
    return RewardOutput(scores, components, spans, extra)  # type: ignore[arg-type]


def check_arguments(reward: Reward, columns: Iterable[str]) -> None:
    """Raises unless everything that a reward model asks for is there, before it is first called.

    What it asks for stands in its signature; one that takes `**columns` may name those that it
    cannot do without in `required_columns`.

    :param columns: names of the prompts' columns.
    :raises InputError: naming the reward model and what it asks for.
    """
    present = {*columns}
    try:
        meanings(signature_of(reward), {*TEXTS, TOKEN_IDS, *present})
    except InputError as error:
        raise InputError(f"reward model {reward_name(reward)!r} {error}") from None
    for column in getattr(reward, "required_columns", ()):
        if column not in present:
            known = ", ".join(map(repr, sorted(present))) or "none"
            raise InputError(
                f"reward model {reward_name(reward)!r} needs the prompt column {column!r}, got "
                f"columns: {known}: add it to the prompts, or say which it is with column=..."
            )


def asked_rewards(reward: Reward) -> list[Reward]:
    """The reward models that a composition of them asks; of any other one itself."""
    inner = getattr(reward, "inner_rewards", None)
    if inner is None:
        return [reward]
    return [asked for part in inner for asked in asked_rewards(part)]


def fresh(value: Any) -> Any:
    """A copy of a value that its receiver may change; what cannot change is itself."""
    return value if type(value) in _ATOMS else copy.deepcopy(value)


def _ask_once(ask: Callable[[], object], timeout: float | None, where: Asked) -> object:
    """The answer; what is raised becomes a `RewardFailure`, but for an interrupt of the user's."""
    directory, has_gradients = _working_directory(), _has_gradients()
    try:
        return ask() if timeout is None else _ask_in_time(ask, timeout, where)
    except RewardError as error:  # of its own, a judge's say: it does not know the step
        error.args = (where.with_step(str(error)),)
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: it would end the run without a word
        text = " ".join(str(error).split())
        hint = chat_hint(error)
        raise where.failure(f"raised {type(error).__name__}: {text:.300}{hint}") from error
    finally:
        now = _working_directory()
        if directory is not None and now != directory:
            os.chdir(directory)
            warnings.warn(
                f"reward model {where.name!r} changed the working directory to {now}: it is set "
                f"back to {directory}",
                stacklevel=2,
            )
        if _has_gradients() != has_gradients:
            sys.modules["torch"].set_grad_enabled(has_gradients)
            warnings.warn(
                f"reward model {where.name!r} left torch's gradients switched "
                f"{'off' if has_gradients else 'on'}: they are set back; write `with "
                "torch.no_grad():` around what needs none",
                stacklevel=2,
            )


def _has_gradients() -> bool:
    """Whether torch, if a reward model can have it at all, keeps gradients."""
    torch = sys.modules.get("torch")
    return torch is None or bool(torch.is_grad_enabled())


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _ask_in_time(ask: Callable[[], object], timeout: float, where: Asked) -> object:
    answer: list[object] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            answer.append(ask())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work, name=f"reward {where.name}", daemon=True)
    thread.start()
    thread.join(timeout)
    if errors and isinstance(errors[0], KeyboardInterrupt):  # no user interrupts this thread
        raise where.failure("raised KeyboardInterrupt") from errors[0]
    if errors:
        raise errors[0]
    if not answer:
        raise where.failure(f"gave no answer within {timeout:g} s (reward_timeout)")
    return answer[0]


def check_reward(reward: object) -> Reward:
    """The reward itself, if it can be called at all.

    An `async def` one is made one that waits, and one whose signature is TRL's (`is_for_trl`) is
    called as TRL calls it.

    :raises InputError: if it is a name (the front door resolves those) or no callable.
    """
    if not callable(reward) or isinstance(reward, type):
        kind = f"the class {reward.__name__}" if isinstance(reward, type) else repr(reward)
        raise InputError(
            f"reward must be a function or an object with __call__, got {kind:.80}: see "
            "textgym.rewards for the contract"
        )
    _check_is_for_texts(reward)
    if not isinstance(reward, FromTRL) and is_for_trl(reward):
        return FromTRL(reward)
    if is_async(reward):
        return AsyncReward(reward, reward_name(reward))
    return reward


def _check_is_for_texts(reward: object) -> None:
    """Raises for a torch module, such as a model of transformers', that takes tensors.

    :raises InputError: saying what to wrap it in.
    """
    called = getattr(type(reward).__call__, "__module__", None) or ""
    if not called.startswith("torch."):
        return
    forward = signature_of(reward.forward)  # type: ignore[attr-defined]
    if "completions" not in forward.names and len(forward.required) < 2:
        raise InputError(
            f"reward is a {type(reward).__name__}, which takes tensors: write a function "
            "(prompts, completions) -> floats that tokenizes the texts and asks it"
        )
