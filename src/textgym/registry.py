"""Names for things: tasks, reward models and agents, each resolved only when it is used.

A target is an object, or a string "module:attribute" that is imported at the first `resolve`. So
the built-in names below cost nothing, and a user's package can register its own in one line. This
is the one place with state at module level: a registry that each caller had to pass around would
name nothing.
"""

import importlib
from collections.abc import Iterable

from textgym.built_in_rewards import BUILT_IN, Facts
from textgym.errors import InputError, unknown_name


class Registry:
    """A table from names to objects, or to where an object can be imported from.

    :param kind: what the names stand for, in the singular ("reward model"); used in errors.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._targets: dict[str, object] = {}
        self._descriptions: dict[str, str] = {}
        self._facts: dict[str, Facts] = {}

    def register(
        self,
        name: str,
        target: object,
        *,
        description: str = "",
        facts: Facts = Facts(),  # noqa: B008 - a tuple
        replace: bool = False,
    ) -> None:
        """Give `target` a name.

        :param target: "module:attribute", or the object itself.
        :param description: one line for listings; without it, the object's own first line.
        :param facts: what else a listing says.
        :param replace: allow the name to be taken already (otherwise only by the same target).
        :raises InputError: if the name or the target has the wrong form, or the name is taken.
        """
        if not isinstance(name, str) or not name or set(name) & set(" ,=\n\t"):
            raise InputError(
                f"a {self.kind} needs a name without spaces, commas and '=', got {name!r}"
            )
        if isinstance(target, str) and not _is_reference(target):
            raise InputError(
                f"{self.kind} {name!r}: a target given as a string must read 'module:attribute', "
                f"got {target!r}"
            )
        if not replace and name in self._targets and self._targets[name] != target:
            raise InputError(
                f"the {self.kind} {name!r} is registered already: choose another name, "
                "or pass replace=True"
            )
        self._targets[name] = target
        self._descriptions[name] = description
        self._facts[name] = facts

    def unregister(self, name: str) -> None:
        """Forget a name; nothing happens if it is unknown."""
        self._targets.pop(name, None)
        self._descriptions.pop(name, None)
        self._facts.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._targets

    def target(self, name: str) -> object:
        """What a name stands for, as it was registered: "module:attribute", or the object."""
        return self._targets[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._targets)

    def describe(self) -> dict[str, str]:
        """One line for every name, sorted by name. Imports nothing."""
        return {name: self._descriptions[name] or self._first_line(name) for name in self.names()}

    def facts(self, name: str) -> Facts:
        """What else a listing says of a name."""
        return self._facts[name]

    def _first_line(self, name: str) -> str:
        target = self._targets[name]
        if isinstance(target, str):
            return target
        lines = (getattr(target, "__doc__", None) or "").strip().splitlines()
        return lines[0] if lines else type(target).__name__

    def resolve(self, name: str) -> object:
        """The object behind a name, imported now if it has to be.

        :raises UnknownNameError: if nothing has this name; it proposes the nearest one.
        :raises InputError: if the import fails, or for what is no name.
        """
        if not isinstance(name, str):
            given = name.__name__ if isinstance(name, type) else type(name).__name__
            raise InputError(
                f"expected one of the names of {self.kind}s "
                f"({', '.join(self.names())}), got an object, {given}"
            )
        if name not in self._targets:
            raise unknown_name(self.kind, name, self._targets)
        target = self._targets[name]
        if isinstance(target, str):
            return import_reference(target, kind=f"{self.kind} {name!r}")
        return target


def import_reference(reference: str, *, kind: str = "object") -> object:
    """The object that "module:attribute" (or "module:attribute.of.it") names.

    :param kind: what it is to be, for the error.
    :raises InputError: if the module or the attribute does not exist. Other errors of an import
        (a missing extra, a syntax error) pass through as they are.
    """
    if not _is_reference(reference):
        raise InputError(f"{kind}: expected 'module:attribute', got {reference!r}")
    module_name, _, path = reference.partition(":")
    try:
        target: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not module_name.startswith(error.name or "\0"):
            raise  # the module is there, something that it imports is not
        raise InputError(
            f"{kind}: no module named {error.name!r} (from {reference!r}): is its folder on "
            "PYTHONPATH, or its package installed?"
        ) from None
    for attribute in path.split("."):
        if not hasattr(target, attribute):
            raise _no_attribute(kind, reference, module_name, attribute, dir(target))
        target = getattr(target, attribute)
    return target


def _no_attribute(
    kind: str, reference: str, module: str, attribute: str, present: Iterable[str]
) -> InputError:
    public = [name for name in present if not name.startswith("_")]
    return InputError(
        f"{kind} ({reference!r}): {unknown_name(f'attribute of {module}', attribute, public)}"
    )


def _is_reference(text: str) -> bool:
    module, separator, attribute = text.partition(":")
    parts = module.split(".") + attribute.split(".")
    return separator == ":" and all(part.isidentifier() for part in parts)


tasks = Registry("environment")
"""Environment ids; `textgym.environments_by_id` fills it and gives the ids to Gymnasium."""

rewards = Registry("reward model")
"""Reward models: a reward, a class of rewards, or a function without arguments that makes one."""

agents = Registry("agent")
"""Agents, that is algorithms: the word that `make_agent` and `--agent` take."""

latent_agents = Registry("agent with latent actions")
"""Algorithms that play with a decoder: the word that `make_agent(..., decoder=...)` takes."""

for _row in BUILT_IN:
    rewards.register(
        _row.name, f"textgym.{_row.target}", description=_row.description, facts=_row.facts
    )
for _name, _target, _description in (
    ("ppo", "PPO", "proximal policy optimisation: the steady default"),
    ("a2c", "A2C", "advantage actor-critic: one update a rollout, simple and fast"),
    ("trpo", "TRPO", "steps of a fixed KL divergence: steady, no learning rate to tune, slow"),
    ("maskable_ppo", "MASKABLE_PPO", "sb3-contrib's PPO for action masks; ppo obeys them too"),
    (
        "dqn",
        "DQN",
        "Q-values from a replay of old texts: for rewards that are slow or costly",
    ),
    ("qrdqn", "QRDQN", "DQN on quantiles of the return: where outlying rewards shall count less"),
    ("grpo", "GRPO", "no critic: several completions of a prompt compared, as in reasoning work"),
    ("rloo", "RLOO", "no critic, unbiased: each completion against its prompt's others, one pass"),
    ("reinforce", "REINFORCE", "the plainest policy gradient: to learn from and compare with"),
    ("nlpo", "NLPO", "PPO within the likely tokens of an older copy: for large vocabularies"),
    ("best_of_n", "BEST_OF_N", "imitates the best of n: simple, any scale of reward; keep it slow"),
    ("dpo", "DPO", "pairs instead of rewards: of a preference file, or drawn and judged online"),
):
    agents.register(_name, f"textgym.agents.building.words:{_target}", description=_description)
for _name, _description in (
    ("sac", "soft actor-critic: explores by itself, learns from a replay; the one to begin with"),
    ("td3", "twin critics and a deterministic z with noise on top; from a replay"),
    ("ddpg", "td3's ancestor with one critic: to compare with"),
    ("tqc", "sac with quantiles of the return, the highest ones dropped"),
    ("crossq", "sac with batch normalisation and no target networks"),
    ("ppo", "on-policy, a normal distribution of z: steady"),
    ("a2c", "on-policy, one update a rollout: simple and fast"),
    ("trpo", "on-policy, steps of a fixed KL divergence"),
    ("ars", "random search: tries whole policies, no gradient"),
):
    latent_agents.register(
        _name,
        f"textgym.agents.building.latent_agents:{_name.upper()}",
        description=_description,
    )
