"""The cells of runs that no study names: runs that differ in nothing but their seed are one.

Settings are compared as the runs recorded them. A policy or a reward model counts by the digest of
what it held, not by its path, so that runs of several machines find each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from textgym.agents.comparison.cells import FRESH, OWN_REWARD
from textgym.agents.comparison.found_runs import FoundRun
from textgym.agents.comparison.study import Cell
from textgym.storage import json_text

# What says where, when and under whose eyes a run was made, not what it does.
_NO_SETTINGS = frozenset(
    """verb env seed out not_saved device checkpoint_seconds checkpoint_tokens keep progress_bar
    evaluations prompts gold shadow policy agent reward env_kwargs""".split()
)
_DIGITS = 8  # of a digest


def derive_cells(runs: Sequence[FoundRun]) -> tuple[list[Cell], dict[str, str]]:
    """The cells of runs, by label, and the cell's label of every run by its name.

    A keyword that only some agents have tells no cells apart: it is compared among the runs of one
    agent.
    """
    policies = _labels(runs, "policy", FRESH)
    rewards = _labels(runs, "reward", OWN_REWARD)
    settings: dict[str, dict[str, Any]] = {}
    for agent in sorted({agent_of(run) for run in runs}):
        own = [run for run in runs if agent_of(run) == agent]
        different = _different([_keywords(run) for run in own])
        for run in own:
            keywords = _keywords(run)
            settings[run.name] = {
                "policy": policies[run.name],
                "agent": agent,
                "reward": rewards[run.name],
                **{name: keywords.get(name) for name in different},
            }
    has_many = {
        name: len({row[name] for row in settings.values()}) > 1
        for name in ("policy", "agent", "reward")
    }
    cells: dict[str, Cell] = {}
    labels = {}
    for run in runs:
        label = labels[run.name] = _label(settings[run.name], has_many)
        shown = {k: v for k, v in settings[run.name].items() if has_many.get(k, True)}
        cells.setdefault(label, Cell(label, shown or {"agent": agent_of(run)}, reward_of(run)))
    return [cells[label] for label in sorted(cells)], labels


def agent_of(run: FoundRun) -> str:
    """The word of its algorithm."""
    return str(run.config.get("agent") or "ppo")


def reward_of(run: FoundRun) -> str:
    """The name of the reward model that a run is trained on, as its record's judges have it."""
    reward = run.config.get("reward")
    named = OWN_REWARD if reward is None else str(reward)
    judges = {} if run.record is None else run.record.settings.judges
    paid = {name: judge for name, judge in judges.items() if judge.role == "reward"}
    exact = [name for name, judge in paid.items() if named in (name, judge.spec)]
    return next(iter([*exact, *paid]), named)


def _keywords(run: FoundRun) -> dict[str, Any]:
    """What tells cells apart besides policy, agent and reward; fields of the task among them."""
    config = {k: v for k, v in run.config.items() if k not in _NO_SETTINGS}
    fields = run.config.get("env_kwargs")
    shown = {
        name: _digits(run.inputs[name]) if name in run.inputs and value is not None else value
        for name, value in config.items()
    }
    return {**shown, **(fields if isinstance(fields, Mapping) else {})}


def _different(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row)
    return [name for name in names if len({json_text(row.get(name)) for row in rows}) > 1]


def _labels(runs: Sequence[FoundRun], setting: str, nothing: str) -> dict[str, str]:
    """What a run's policy or reward is called: as short as tells it from those that differ.

    :param nothing: for runs that name none.
    """
    identities: dict[str, str] = {}
    spellings: dict[str, str] = {}
    for run in runs:
        value = run.config.get(setting)
        if value is None and setting in (run.config.get("not_saved") or ()):
            value = reward_of(run) if setting == "reward" else "object"
        digests = run.inputs.get(setting)
        text = nothing if value is None else str(value)
        identities[run.name] = _digits(digests) if digests and value is not None else text
        spellings.setdefault(identities[run.name], text)
    names = {identity: _short(text) for identity, text in spellings.items()}
    names = {i: spellings[i] if _is_shared(n, names.values()) else n for i, n in names.items()}
    names = {i: f"{n} ({i})" if _is_shared(n, names.values()) else n for i, n in names.items()}
    return {run.name: names[identities[run.name]] for run in runs}


def _digits(digests: Sequence[str]) -> str:
    """Enough of what files held to tell them apart, and to be read."""
    return " ".join(digest[:_DIGITS] for digest in digests)


def _short(text: str) -> str:
    """The last part of a path; a name is one already."""
    is_path = "/" in text.partition(",")[0] and ":" not in text
    return PurePath(text).name if is_path else text


def _is_shared(name: str, names: Iterable[str]) -> bool:
    return sum(other == name for other in names) > 1


def _label(settings: Mapping[str, Any], has_many: Mapping[str, bool]) -> str:
    keywords = [
        f"{name}={value if isinstance(value, str) else json_text(value)}"
        for name, value in settings.items()
        if name not in has_many
    ]
    agent = ",".join([str(settings["agent"]), *keywords])
    parts = [str(settings["policy"])] if has_many["policy"] else []
    if has_many["agent"] or keywords or not (parts or has_many["reward"]):
        parts.append(agent)
    if has_many["reward"]:
        parts.append(str(settings["reward"]))
    return " · ".join(parts)
