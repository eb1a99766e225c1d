"""The verbs that only look: tables of what is registered, and TensorBoard."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym import registry
from textgym.checks import check_numbers
from textgym.errors import InputError
from textgym.paths import expand


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


def show_tensorboard(runs: str | Path, port: int = 6006, host: str = "127.0.0.1") -> int:
    """Show runs in TensorBoard, for this machine only unless told otherwise.

    :param runs: a run directory, or a directory of them.
    :param port: of the page; 0 takes a free one.
    :param host: the address to listen on.
    :raises InputError: if there is no event file.
    """
    check_numbers({"port": port})
    directory = expand(runs)
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; expected a run directory")
    if not [*directory.rglob("events.out.tfevents.*")]:
        raise InputError(
            f"{directory}: holds no TensorBoard event files; train with --out {directory} first"
        )
    _check_address(host, port)
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(directory)]
    return subprocess.call([*command, "--host", host, "--port", str(port)])


def _check_address(host: str, port: int) -> None:
    """Raises unless this machine can listen there.

    :raises InputError: naming what is wrong.
    """
    try:
        if not host.strip():
            raise ValueError
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = places[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
    except (socket.gaierror, UnicodeError, ValueError):
        raise InputError(f"host must be a name or an address, got {host!r:.60}") from None
    except OSError as error:
        raise InputError(
            f"cannot listen on port {port} of {host!r:.60} ({error.strerror}): take another port "
            "(0: a free one)"
        ) from None
