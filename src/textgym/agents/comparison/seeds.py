"""Which seeds a comparison has: so many, or a list."""

from collections.abc import Sequence

from textgym.checks import RANGES
from textgym.errors import InputError


def seeds_of(given: int | str | Sequence[int]) -> list[int]:
    """Seeds in order: 5 is 0 to 4, "3,8" and [3, 8] are those two.

    :raises InputError: for none, one that is there twice, or what is no seed.
    """
    must = InputError(
        f"seeds must be a whole number of at least 1, or different seeds like '3,8', got {given!r}"
    )
    if isinstance(given, str):
        try:
            numbers = [int(part) for part in given.removesuffix(",").split(",")]
        except ValueError:
            raise must from None
        given = numbers[0] if "," not in given else numbers
    if isinstance(given, int) and not isinstance(given, bool):
        if not 1 <= given <= 10_000:
            raise must
        return list(range(given))
    if not isinstance(given, list | tuple | range) or not given:
        raise must
    seeds = list(given)
    if not all(RANGES["seed"].holds(seed) for seed in seeds) or len(set(seeds)) < len(seeds):
        raise must
    return seeds


def written_seeds(seeds: Sequence[int]) -> int | str:
    """Seeds as a command line takes them."""
    is_count = list(seeds) == list(range(len(seeds)))
    return len(seeds) if is_count else ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")
