"""What a judge was asked and what it costs."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Cost:
    """Of one text, or of all since the judge was made.

    :param calls: requests that were made, further tries included.
    :param tokens_in, tokens_out: as the server counts them.
    :param cached: questions that the cache answered.
    """

    calls: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cached: int = 0

    def add(self, other: "Cost") -> None:
        """Add another one."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def price(self, price_in: float, price_out: float) -> float:
        """In the unit of the prices, which are of a million tokens."""
        return (self.tokens_in * price_in + self.tokens_out * price_out) / 1e6


def cost_components(
    costs: Sequence[Cost], price_in: float = 0.0, price_out: float = 0.0
) -> dict[str, list[float]]:
    """The costs of b texts as components of a reward: `judge_calls` and so on, each of length b."""
    components = {
        f"judge_{name}": [float(getattr(cost, name)) for cost in costs] for name in vars(Cost())
    }
    if price_in or price_out:
        components["judge_price"] = [cost.price(price_in, price_out) for cost in costs]
    return components
