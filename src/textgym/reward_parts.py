"""What a composition of reward models is made of: its attribute `inner_rewards`."""

from collections.abc import Iterator
from typing import Any


def every_part(reward: Any) -> Iterator[Any]:
    """A reward model and all reward models inside it, at any depth."""
    yield reward
    for inner in getattr(reward, "inner_rewards", ()):
        yield from every_part(inner)
