"""The verbs that list what is registered."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym import registry
from textgym.built_in_rewards import Facts

WIDTH = 140  # of what is no terminal


def list_envs() -> int:
    """List the environments."""
    return _show("environment", environment_lines())


def list_rewards() -> int:
    """List the reward models: range, speed, licence of what they use, what to install."""
    table = registry.rewards
    lines = {
        name: "\n".join(filter(None, (description, _facts_line(table.facts(name)))))
        for name, description in table.describe().items()
    }
    _show("reward model", lines)
    print("With arguments: --reward length,target=40. An extra: pip install 'textgym[metrics]'.")
    return 0


def _facts_line(facts: Facts) -> str:
    """Such as "[0, 1] · 1,000+ texts/s · Apache-2.0 (sacrebleu) · extra: metrics"."""
    speed = f"{facts.speed} texts/s" if facts.speed.endswith("+") else f"speed: {facts.speed}"
    speed = speed if facts.speed else ""
    extra = f"extra: {facts.extra}" if facts.extra else ""
    return " · ".join(dict.fromkeys(filter(None, (facts.range, speed, facts.licence, extra))))


def list_agents() -> int:
    """List the algorithms, those of tokens first."""
    _show("agent", registry.agents.describe())
    print()
    return _show("agent with latent actions (decoder=)", registry.latent_agents.describe())


def environment_lines() -> dict[str, str]:
    """One line for every environment id: its function's docstring, or its prompt and reward."""
    lines = {}
    for name, description in registry.tasks.describe().items():
        fields = registry.tasks.resolve(name)
        if isinstance(fields, Mapping):
            reward = fields["reward"]
            label = reward if isinstance(reward, str) else getattr(reward, "__name__", "its own")
            budget = fields["max_new_tokens"]
            description = f"reward {label}, at most {budget} tokens"
        elif fields.__doc__:
            description = fields.__doc__.strip().splitlines()[0]
        lines[name] = description
    return lines


def _show(kind: str, lines: Mapping[str, str]) -> int:
    return _print((kind, "what it is"), [*lines.items()])


def _print(head: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """A table; names are never cut, so that they can be copied."""
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False)
    table = Table(*head)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)
    return 0
