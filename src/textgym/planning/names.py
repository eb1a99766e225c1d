"""The names that a comparison is given: each run is a process of its own, which must know them."""

import inspect
from collections.abc import Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from textgym import registry
from textgym.agents.comparison.cells import AgentChoice
from textgym.agents.runs.held_out import Role
from textgym.command_line.options import Flag, flag_of, from_file
from textgym.environments_by_id import BUILTIN_TASKS, own_reward
from textgym.errors import InputError, unknown_name
from textgym.rewards import Reward
from textgym.rewards_by_name import check_apart, different_names, resolve_reward, same_reward
from textgym.typed_arguments import split_arguments

PLUGIN_GROUP = "textgym.plugins"
_SWITCHES = {"true": True, "false": False, "True": True, "False": False}
# What belongs to the study and not to an agent of it.
_OF_THE_STUDY = frozenset(
    {"timesteps", "seed", "seeds", "out", "prompts", "evaluations", "gold", "shadow", "reward"}
    | {"policy", "agent", "env", "jobs"}
)


def listed(name: str, given: object) -> list[str]:
    """One text or path, or several, as texts; nothing is an empty list.

    :param name: of the parameter, for errors.
    :raises InputError: for an object, which no process of its own would know.
    """
    if given is None:
        return []
    several = given if isinstance(given, list | tuple) else [given]
    for item in several:
        if not isinstance(item, str | Path) or not str(item).strip():
            is_object = not isinstance(item, str | Path)
            got = f"an object, {_described(item)}" if is_object else repr(item)
            raise InputError(
                f"{name} must be a name, a directory or 'module:attribute', since every run of a "
                f"comparison is a process of its own, got {got}: write it into a module and name it"
            )
    return [str(item) for item in several]


def agent_choice(spec: str, keyword_flags: Mapping[str, Flag]) -> AgentChoice:
    """An agent with keywords of its own: "ppo,kl_coef=0.1".

    :param keyword_flags: of this agent, by name (see `keyword_flags_of`).
    :raises InputError: for a keyword that it does not take, or a value that is none for it.
    """
    name, texts = split_arguments(spec, "agent")
    keywords: dict[str, Any] = {}
    for key, text in texts.items():
        if key in _OF_THE_STUDY:
            flag_name = {"seed": "--seeds", "env": "ENV"}.get(key, f"--{key}")
            raise InputError(
                f"agent {spec!r}: {key} belongs to the study and is no keyword of an agent: give "
                f"it by itself, {flag_name}"
            )
        if key not in keyword_flags:
            raise unknown_name(f"keyword of agent {name!r}:", key, keyword_flags)
        flag = keyword_flags[key]
        if flag.kind in ("table", "texts"):
            raise InputError(
                f"agent {spec!r}: {key} takes several values, which commas would cut: give it by "
                f"itself, --{key.replace('_', '-')}"
            )
        value = _SWITCHES.get(text, text) if flag.kind == "switch" else text
        keywords[key] = from_file(flag, value, f"agent {spec!r}")
    return AgentChoice(spec, name, keywords)


def keyword_flags_of(agent: str) -> dict[str, Flag]:
    """The keywords of an agent that a command line can give, by name.

    :raises UnknownNameError: for an agent that nobody knows.
    """
    from textgym.agents.building.build import build_agent
    from textgym.agents.building.keywords import keywords_of
    from textgym.agents.building.specs import spec_of
    from textgym.training import train

    known = keywords_of(spec_of(agent), build_agent)
    flags = {name: flag_of(keyword.parameter, keyword.help) for name, keyword in known.items()}
    of_train = inspect.signature(train).parameters
    for name in ("n_envs",):
        flags[name] = flag_of(of_train[name], "")
    return {name: flag for name, flag in flags.items() if flag is not None}


def check_tokens_only(agents: Iterable[str], decoder: object) -> None:
    """Raises for cells with latent actions.

    Their runs count texts where the others count tokens, and what they write has no token
    probabilities, of which a study's records and verdicts are made.

    :param decoder: as `train`'s; None where none was given.
    :raises InputError: saying what to do instead.
    """
    words = [n for n in agents if n in registry.latent_agents and n not in registry.agents]
    if words or decoder is not None:
        given = f"agent {words[0]!r} has" if words else "decoder goes with"
        raise InputError(
            f"{given} latent actions, whose runs are no cells of a comparison: they count texts, "
            "not tokens, and record no KL to a start; train them with textgym train --decoder, and "
            "judge each with textgym evaluate"
        )


def check_known_to_all(env: str, agents: Iterable[str], rewards: Iterable[str]) -> None:
    """Raises for names that only this process knows, since a script of it registered them.

    Names that an installed plugin registers are known to every process.

    :raises InputError: saying how to write them.
    """
    if list(metadata.entry_points(group=PLUGIN_GROUP)):
        return
    if ":" not in env and env in registry.tasks and env not in BUILTIN_TASKS:
        raise _only_here("environment", env, f"module:{env}")
    for kind, names, known in (
        ("agent", agents, registry.agents),
        ("reward model", rewards, registry.rewards),
    ):
        for name in names:
            if name in known and not _is_builtin(known, name):
                raise _only_here(kind, name, "module:attribute")


def check_roles(
    env: str,
    fields: Mapping[str, Any],
    *,
    rewards: Sequence[str],
    gold: Sequence[str],
    shadow: Sequence[str],
) -> dict[str, tuple[str, Role]]:
    """Who judges the held-out texts; every reward model can be made, and has one part to play.

    :param fields: of the task, that are replaced.
    :return: name (as the record has it) and role, by what was written: those that any cell trains
        on are a "reward".
    :raises InputError: naming the first that does not.
    """
    made = {spec: resolve_reward(spec) for spec in (*rewards, *gold, *shadow)}
    trained_on: list[tuple[object, Reward]] = [(spec, made[spec]) for spec in rewards]
    if not rewards:
        own = own_reward(env, fields)
        trained_on = [(own, resolve_reward(own))]
    judges = [(spec, made[spec]) for spec in gold]
    check_apart("reward", trained_on, [], "")
    check_apart(
        "gold judge",
        judges,
        trained_on,
        "is also what a cell trains on: a judge must be independent of what it judges; name "
        "another one, or leave it out of one of the two",
    )
    lookers = [(spec, made[spec]) for spec in shadow]
    check_apart("shadow", lookers, judges, "is a gold judge too: leave it out of one of the two")
    known = {same_reward(spec) for spec, _ in trained_on}
    only = [(spec, reward) for spec, reward in lookers if same_reward(spec) not in known]
    contestants = [*trained_on, *only]
    names = different_names([s for s, _ in contestants], [reward for _, reward in contestants])
    names += different_names(gold, [reward for _, reward in judges], taken=names)
    parts: list[tuple[object, Role]] = [(spec, "reward") for spec, _ in trained_on]
    parts += [(spec, "shadow") for spec, _ in only]
    parts += [(spec, "gold") for spec in gold]
    return {str(spec): (name, role) for (spec, role), name in zip(parts, names, strict=True)}


def _is_builtin(known: registry.Registry, name: str) -> bool:
    target = known.target(name)
    return isinstance(target, str) and target.startswith("textgym.")


def _only_here(kind: str, name: str, instead: str) -> InputError:
    return InputError(
        f"the {kind} {name!r} was registered by this program, and the runs of a comparison are "
        f"processes of their own: put it into a module and write {instead!r}"
    )


def _described(thing: object) -> str:
    name: Any = getattr(thing, "__name__", None)
    return f"{type(thing).__name__} {name}" if isinstance(name, str) else type(thing).__name__


def check_shared(keywords: Collection[str], flags: Mapping[str, Mapping[str, Flag]]) -> None:
    """Raises unless every agent takes the keywords that are given for all.

    :param flags: the keywords of each agent, by its name.
    :raises InputError: naming the first that does not, and what to write instead.
    """
    for key in keywords:
        takers = [agent for agent, known in flags.items() if key in known]
        if not takers:
            known_to_some = {name for known in flags.values() for name in known}
            raise unknown_name("keyword of all agents:", key, known_to_some)
        for agent in flags:
            if agent not in takers:
                raise InputError(
                    f"agent {agent!r} takes no {key}: give it to those that do, "
                    f"--agent '{takers[0]},{key}=...'"
                )
