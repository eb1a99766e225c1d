"""What keeps runs from being compared: each is said in one line that names the runs."""

from collections.abc import Mapping, Sequence

from textgym.agents.comparison.derived_cells import reward_of
from textgym.agents.comparison.found_runs import FoundRun
from textgym.agents.runs.held_out import Role
from textgym.errors import InputError

_NAMES = 3  # runs that a line names of each kind


def check_comparable(runs: Sequence[FoundRun], labels: Mapping[str, str]) -> None:
    """Raises unless runs have one environment, one set of prompts and one budget.

    :param labels: the cell of every run, by its name.
    :raises InputError: naming those that differ, or two of one cell and seed.
    """
    recorded = [run for run in runs if run.record is not None]
    _check_environments(runs)
    _check_once(runs, labels)
    _check_prompts(recorded)
    _check_budgets([run for run in recorded if run.is_whole])


def judges_of(runs: Sequence[FoundRun]) -> dict[str, Role]:
    """The role of every judge of their records; what any run is trained on is a "reward".

    :raises InputError: for a gold judge that a run is trained on.
    """
    roles: dict[str, Role] = {}
    trained_on = {reward_of(run): run.name for run in reversed(runs)}
    for run in runs:
        judges = {} if run.record is None else run.record.settings.judges
        for name, judge in judges.items():
            if judge.role == "gold" and name in trained_on:
                raise InputError(
                    f"{name} is a gold judge of {run.name}, but {trained_on[name]} is trained on "
                    "it: a judge must be independent of what it judges; leave one of the two out"
                )
            if roles.get(name) != "gold":
                roles[name] = "reward" if name in trained_on else judge.role
    order = ("reward", "shadow", "gold")
    return dict(sorted(roles.items(), key=lambda item: order.index(item[1])))


def few(names: Sequence[str]) -> str:
    """Names in a line, the first of many."""
    shown = ", ".join(names[:_NAMES])
    return shown if len(names) <= _NAMES else f"{shown} and {len(names) - _NAMES} more"


def _differing(values: Mapping[str, str]) -> str:
    """Who has which of several values, in words; "" where all have one.

    :param values: in words, by the run's name.
    """
    groups: dict[str, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    if len(groups) < 2:
        return ""
    return "; ".join(f"{value}: {few(names)}" for value, names in groups.items())


def _check_environments(runs: Sequence[FoundRun]) -> None:
    told = _differing({run.name: str(run.config.get("env")) for run in runs})
    if told:
        raise InputError(
            f"runs of different environments cannot be compared ({told}): report on each alone"
        )


def _check_once(runs: Sequence[FoundRun], labels: Mapping[str, str]) -> None:
    seen: dict[tuple[str, int], str] = {}
    for run in runs:
        key = labels[run.name], run.seed
        if key in seen:
            raise InputError(
                f"{seen[key]} and {run.name} are the same cell and seed ({key[0]}, seed {key[1]}): "
                "leave one out"
            )
        seen[key] = run.name


def _check_prompts(recorded: Sequence[FoundRun]) -> None:
    values = {}
    for run in recorded:
        assert run.record is not None
        settings = run.record.settings
        values[run.name] = f"{settings.n_prompts} prompts {settings.prompts_sha256[:8]}"
    told = _differing(values)
    if told:
        raise InputError(
            f"runs on different held-out prompts cannot be compared ({told}): report on each alone"
        )


def _check_budgets(runs: Sequence[FoundRun]) -> None:
    told = _differing({run.name: f"{run.timesteps:,} tokens" for run in runs})
    if told:
        raise InputError(
            f"unequal budgets cannot be compared ({told}): leave some out, or go on with the "
            "shorter ones (textgym train --resume --timesteps)"
        )
