"""What a reward model is called at the front door, and the object behind the name."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from textgym import registry
from textgym.errors import InputError, TextGymError, unknown_name
from textgym.paths import absolute, is_directory
from textgym.reward_arguments import TOKEN_IDS
from textgym.reward_models.composition import free_name
from textgym.rewards import Reward, check_reward, reward_name
from textgym.typed_arguments import split_arguments, typed_arguments


def resolve_reward(spec: object) -> Reward:
    """The reward model that a name stands for; an object passes as it is.

    :param spec: a reward; a checkpoint directory; a registered name ("length"); or
        "module:attribute". Arguments follow after commas ("length,target=40"), of the types that
        its signature names; a value that holds a comma needs Python.
    :raises InputError: if there is nothing of that name, or its arguments do not fit.
    """
    if not isinstance(spec, str | Path):
        return check_reward(spec)
    if is_directory(spec):
        from textgym.agents.building.reward_checkpoint import load_reward

        return check_reward(load_reward(spec))
    name, arguments = split_arguments(str(spec), "reward")
    if name in registry.rewards:
        target = registry.rewards.resolve(name)
    elif ":" in name:
        target = registry.import_reference(name, kind="reward model")
    elif "/" in name or "\\" in name:
        raise InputError(f"reward {name!r}: there is no such directory, and no name has a slash")
    else:
        raise unknown_name("reward model", name, registry.rewards.names())
    return _instance(target, arguments, str(spec))


def named_rewards(specs: Sequence[object]) -> dict[str, Reward]:
    """Reward models by different names (`different_names`).

    :param specs: as `resolve_reward` takes them.
    """
    rewards = [resolve_reward(spec) for spec in specs]
    return dict(zip(different_names(specs, rewards), rewards, strict=True))


def different_names(
    specs: Sequence[object], rewards: Sequence[Reward], taken: Iterable[str] = ()
) -> list[str]:
    """Reward models' own names; those that share one are called what was written for them.

    :param specs: what was written for each, or an object.
    :param taken: names that others have.
    """
    own, names = [*taken, *map(reward_name, rewards)], list(taken)
    first = len(names)
    for spec, reward in zip(specs, rewards, strict=True):
        name = reward_name(reward)
        is_written = isinstance(spec, str | Path) and own.count(name) > 1
        names.append(free_name(str(spec) if is_written else name, names))
    return names[first:]


def check_apart(
    kind: str,
    given: Sequence[tuple[object, Reward]],
    others: Sequence[tuple[object, Reward]],
    reason: str,
) -> None:
    """Raises if a reward model stands twice in a list, or among others.

    :param kind: what the list is called.
    :param given, others: what was written for each, and the reward model.
    :param reason: why it must not be among the others.
    :raises InputError: naming the first.
    """
    taken = [(same_reward(spec), reward) for spec, reward in others]
    before: list[tuple[object, Reward]] = []
    for spec, reward in given:
        key = same_reward(spec)
        label = str(spec) if isinstance(spec, str | Path) else reward_name(reward)
        if any(key == other or reward is known for other, known in taken):
            raise InputError(f"{kind} {label!r} {reason}")
        if any(key == other or reward is known for other, known in before):
            raise InputError(f"{kind} {label!r} is given twice: leave one out")
        before.append((key, reward))


def reward_list(specs: object) -> list[Any]:
    """One reward model or several, as a list."""
    is_single = isinstance(specs, str | Path) or not isinstance(specs, Iterable)
    return [specs] if is_single else list(specs)  # type: ignore[call-overload]


def same_reward(spec: object) -> object:
    """What two names of one reward model have in common; an object is itself.

    The order of arguments and the way to a directory do not count.
    """
    if not isinstance(spec, str | Path):
        return id(spec)
    if is_directory(spec):
        return str(absolute(spec))
    name, *arguments = (part.strip() for part in str(spec).split(","))
    pairs = (part.partition("=") for part in arguments)
    return (name, *sorted((key.strip(), value.strip()) for key, _, value in pairs))


def _instance(target: object, arguments: dict[str, str], spec: str) -> Reward:
    """A reward as it is; a class or a maker of rewards, called with the arguments."""
    if not callable(target):
        raise InputError(f"reward {spec!r} is {target!r:.60}, which cannot be called")
    if not isinstance(target, type) and _is_reward(target, arguments):
        if arguments:
            raise InputError(f"reward {spec!r} takes no arguments: it is a reward itself")
        return check_reward(target)
    _check_arguments(target, arguments, spec)
    values = typed_arguments(target, arguments, f"reward {spec!r}")
    try:
        made = target(**values)
    except TextGymError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"reward {spec!r} cannot be made: {type(error).__name__}: {reason:.200}"
        ) from error
    return check_reward(made)


def _is_reward(target: Callable[..., Any], given: Iterable[str]) -> bool:
    """Whether it takes texts itself, rather than making something that does.

    :param given: names of the arguments that were written for it.
    """
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return True
    required = {
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    }
    if any(p.name in ("completions", TOKEN_IDS) for p in parameters):
        return True
    return len(required.difference(given)) >= 2


def _check_arguments(target: Callable[..., Any], arguments: dict[str, str], spec: str) -> None:
    parameters = inspect.signature(target).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for name in arguments:
            if name not in parameters:
                raise unknown_name(f"argument of reward {spec.split(',')[0]!r}:", name, parameters)
    for name, parameter in parameters.items():
        is_plain = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if is_plain and parameter.default is parameter.empty and name not in arguments:
            raise InputError(f"reward {spec!r} needs the argument {name!r}: '{spec},{name}=...'")
