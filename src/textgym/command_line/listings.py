"""The verbs that list what is registered."""

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym import registry


def list_envs() -> int:
    """List the environments."""
    return _show("environment", environment_lines())


def list_rewards() -> int:
    """List the reward models."""
    return _show("reward model", registry.rewards.describe())


def list_agents() -> int:
    """List the algorithms."""
    return _show("agent", registry.agents.describe())


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
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    table = Table(kind, "what it is")
    for name, description in lines.items():
        table.add_row(escape(name), escape(description))
    console.print(table)
    return 0
