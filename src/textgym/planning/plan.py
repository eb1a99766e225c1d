"""What a comparison will run: its cells and their configurations, checked before anything begins.

Every agent of the comparison is built here once, so that whatever its run would refuse is refused
now, and so that its whole configuration is known: runs that are there already are compared with it.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from textgym.agents.comparison.cells import PlannedCell, cells_of, differing
from textgym.agents.evaluation.held_out_prompts import prompt_row
from textgym.agents.runs.held_out import Role, prompts_digest
from textgym.agents.runs.settings import is_json, to_json
from textgym.agents_by_name import make_agent
from textgym.environments_by_id import import_environment
from textgym.envs.task import Task
from textgym.errors import InputError
from textgym.held_out_evaluations import held_out_prompts
from textgym.planning.names import (
    agent_choice,
    check_known_to_all,
    check_roles,
    check_shared,
    check_tokens_only,
    keyword_flags_of,
)
from textgym.rewards_by_name import same_reward
from textgym.run_files import CELLS, HELD_OUT_PROMPTS
from textgym.task_arguments import task_fields
from textgym.training import train, train_config
from textgym.typed_arguments import split_arguments

_ALWAYS_SAID = ("agent", "seed", "timesteps")


@dataclass(frozen=True)
class RunSize:
    """What a run of an agent takes, estimated.

    :param seconds_of_a_token: of training, on one thread; None where nobody measured.
    :param bytes: on the disk, at its end.
    """

    seconds_of_a_token: float | None
    bytes: int


@dataclass(frozen=True)
class Plan:
    """A comparison before it runs.

    :param shared: settings of `train` that all runs have, `timesteps` among them.
    :param rewards: what cells train on, once each; all look on where they are not trained on.
    :param prompts: the held-out ones: rows with the key `prompt`.
    :param configs: the whole configuration of each cell's runs but for the seed, by slug.
    :param judges: name and role of everyone who scores held-out texts, by what was written.
    :param sizes: what a run of each cell takes, by slug.
    :param max_new_tokens: of a text.
    """

    env: str
    cells: Sequence[PlannedCell]
    seeds: Sequence[int]
    shared: Mapping[str, Any]
    rewards: Sequence[str]
    gold: Sequence[str]
    shadow: Sequence[str]
    out: str
    prompts: Sequence[Mapping[str, Any]] = ()
    judges: Mapping[str, tuple[str, Role]] = field(default_factory=dict)
    configs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    sizes: Mapping[str, RunSize] = field(default_factory=dict)
    max_new_tokens: int = 0

    @property
    def timesteps(self) -> int:
        """Completion tokens of each run."""
        return int(self.shared["timesteps"])

    @property
    def prompts_sha256(self) -> str:
        """Of the held-out prompts."""
        return prompts_digest(self.prompts)

    def directory(self, cell: PlannedCell, seed: int) -> Path:
        """Where a run of a cell stands, as the command line names it."""
        return Path(self.out) / CELLS / cell.slug / f"seed-{seed}"

    def settings(self, cell: PlannedCell, seed: int) -> dict[str, Any]:
        """The arguments of `train` for one run; what is None is not given."""
        keys = {same_reward(reward) for reward in self.rewards}
        others = [reward for reward in self.rewards if reward != cell.reward]
        others += [name for name in self.shadow if same_reward(name) not in keys]
        settings: dict[str, Any] = {
            "env": self.env,
            "agent": cell.agent.name,
            "policy": cell.policy,
            "reward": cell.reward,
            **{**self.shared, **cell.agent.keywords},
            "gold": list(self.gold),
            "shadow": others,
            "prompts": str(Path(self.out) / HELD_OUT_PROMPTS),
            "seed": seed,
            "out": str(self.directory(cell, seed)),
        }
        usual = {p.name: p.default for p in inspect.signature(train).parameters.values()}
        return {
            name: value
            for name, value in settings.items()
            if value is not None and (name in _ALWAYS_SAID or value != usual.get(name))
        }

    def expected(self, cell: PlannedCell, seed: int) -> dict[str, Any]:
        """The whole configuration that a run of a cell records."""
        return {**self.configs[cell.slug], "seed": seed}

    def differing(self, cell: PlannedCell) -> dict[str, Any]:
        """What the cell differs in from others, by name: as its runs are configured."""
        config = self.configs[cell.slug]
        return {name: config.get(name) for name in differing(self.cells)}


def cells_for(
    env: str,
    policies: Sequence[str],
    agents: Sequence[str],
    rewards: Sequence[str],
    keywords: Mapping[str, Any],
) -> list[PlannedCell]:
    """The cells of a comparison, names and keywords checked.

    :param keywords: of the agents, for all cells.
    :raises InputError: for what no run could know or take, and for a cell that is there twice.
    """
    check_tokens_only([spec.partition(",")[0] for spec in agents], keywords.get("decoder"))
    for name, value in keywords.items():
        if not is_json(to_json(value)):
            raise InputError(
                f"{name} must be a number or a text, since every run of a comparison is a process "
                f"of its own, got a {type(value).__name__}"
            )
    import_environment(env)
    if not agents:
        raise InputError("agent must name one algorithm at least, such as 'ppo', got none")
    names = [split_arguments(spec, "agent")[0] for spec in agents]
    check_known_to_all(env, names, [spec.partition(",")[0] for spec in rewards])
    flags = {name: keyword_flags_of(name) for name in names}
    choices = [agent_choice(spec, flags[name]) for spec, name in zip(agents, names, strict=True)]
    check_shared(list(keywords), flags)
    return cells_of(policies or [None], choices, rewards or [None])


def planned(
    env: str,
    axes: Mapping[str, Sequence[str]],
    keywords: Mapping[str, Any],
    *,
    seeds: Sequence[int],
    shared: Mapping[str, Any],
    prompts: str | Path | None,
    out: str,
    measure: bool,
) -> Plan:
    """A comparison, checked: whatever one of its runs would refuse is refused here.

    :param axes: the names that were given as `policy`, `agent`, `reward`, `gold` and `shadow`.
    :param keywords: of the agents, for all cells; `shared`: of `train`.
    :param prompts: a file of held-out prompts; None: the task's own.
    :param measure: time a training step of each agent.
    :raises InputError: naming what is wrong.
    """
    cells = cells_for(env, axes["policy"], axes["agent"], axes["reward"], keywords)
    fields = task_fields(shared.get("env_kwargs"))
    gold, shadow = axes["gold"], axes["shadow"]
    judges = check_roles(env, fields, rewards=axes["reward"], gold=gold, shadow=shadow)
    plan = Plan(
        env,
        cells,
        seeds,
        to_json({**shared, **keywords}),
        rewards=axes["reward"],
        gold=gold,
        shadow=shadow,
        out=out,
        judges=judges,
    )
    built: dict[str, _Built] = {}
    configs: dict[str, Mapping[str, Any]] = {}
    sizes: dict[str, RunSize] = {}
    tried: set[str | None] = set()
    for cell in cells:
        key = repr((cell.policy, cell.agent.name, sorted(cell.agent.keywords.items())))
        settings = plan.settings(cell, seeds[0])
        if key not in built or cell.reward not in tried:
            built[key] = _build(settings, prompts, measure=measure)
            tried.add(cell.reward)
        ours = ("reward", "shadow", "policy", "out")
        given = {name: settings[name] for name in ours if name in settings}
        configs[cell.slug] = {**built[key].config, **given}
        sizes[cell.slug] = built[key].size
    _check_different(cells, configs)
    first = next(iter(built.values()))
    return replace(
        plan,
        configs=configs,
        sizes=sizes,
        prompts=first.prompts,
        max_new_tokens=first.max_new_tokens,
    )


@dataclass(frozen=True)
class _Built:
    """What an agent that was built tells: what its runs record and take, and its prompts."""

    config: Mapping[str, Any]
    size: RunSize
    prompts: Sequence[Mapping[str, Any]]
    max_new_tokens: int


def _build(settings: Mapping[str, Any], prompts: str | Path | None, *, measure: bool) -> _Built:
    from textgym.agents.building.build import recorded_config
    from textgym.planning.costs import size_of

    unsaid = ("gold", "shadow", "prompts", "evaluations", "timesteps", "out", "guards")
    arguments = {name: value for name, value in settings.items() if name not in unsaid}
    agent = make_agent(arguments.pop("agent"), arguments.pop("env"), **arguments)
    named = {name: settings.get(name) for name in ("policy", "reference")}
    assert agent.env is not None
    task: Task = agent.env.get_attr("task")[0]
    return _Built(
        recorded_config(agent, named, train_config(**settings)),
        size_of(agent, measure=measure),
        [prompt_row(prompt) for prompt in held_out_prompts(task, prompts)],
        task.max_new_tokens,
    )


def _check_different(
    cells: Sequence[PlannedCell], configs: Mapping[str, Mapping[str, Any]]
) -> None:
    seen: dict[str, str] = {}
    for cell in cells:
        config = {k: v for k, v in configs[cell.slug].items() if k not in ("out", "shadow")}
        key = repr(sorted(config.items()))
        if key in seen:
            raise InputError(
                f"the cell {cell.label!r} is {seen[key]!r} again, with its defaults written out: "
                "leave one out"
            )
        seen[key] = cell.label
