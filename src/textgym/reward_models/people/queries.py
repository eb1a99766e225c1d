"""Which pairs of texts are worth asking people about: pure functions of what is known of the pairs.

A rule takes what an ensemble says of the candidates and gives the places of those to ask, the most
wanted first. A candidate is two different completions of one prompt.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from textgym.errors import unknown_name

Array = npt.NDArray[np.float64]
RuleName = Literal["disagreement", "random"]
Rule = Callable[[Array, npt.NDArray[np.int64], int, np.random.Generator], list[int]]
Written = tuple[str, str]  # a prompt and its completion


def disagreement(preferences: Array) -> Array:
    """float64 [p], how far the members of an ensemble are apart about each pair.

    The standard deviation, over members, of the probability that the first text is the better one:
    what Christiano et al. 2017 ("Deep Reinforcement Learning from Human Preferences", section
    2.2.4) ask about.

    :param preferences: float64 [k, p], each member's probability.
    """
    return np.asarray(preferences.std(axis=0))


def most_disagreed(
    preferences: Array, places: npt.NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[int]:
    """Up to `count` pairs in the order of `disagreement`, no text twice; ties in order of place.

    :param preferences: float64 [k, p]; of one member or none, all pairs tie.
    :param places: int64 [p, 2], which texts a pair has.
    """
    spread = disagreement(preferences) if len(preferences) else np.zeros(len(places))
    return _without_repeats(np.argsort(-spread, kind="stable").tolist(), places, count)


def at_random(
    preferences: Array, places: npt.NDArray[np.int64], count: int, rng: np.random.Generator
) -> list[int]:
    """Up to `count` pairs, each as likely as any, no text twice: the control."""
    return _without_repeats(rng.permutation(len(places)).tolist(), places, count)


def query_rule(name: str) -> Rule:
    """The rule of a name.

    :raises UnknownNameError: for another name.
    """
    rules: dict[str, Rule] = {"disagreement": most_disagreed, "random": at_random}
    if name not in rules:
        raise unknown_name("query rule", name, rules)
    return rules[name]


def candidates(
    texts: Sequence[Written],
    new: int,
    asked: Collection[frozenset[Written]],
    limit: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """Pairs that can be asked, int64 [p, 2] of places in `texts`; at most `limit`, drawn evenly.

    A pair has two different completions of one prompt, at least one of them new, and was not asked.

    :param texts: prompts and completions, oldest first.
    :param new: how many, at the end, are new.
    :param asked: pairs that were asked.
    """
    by_prompt: dict[str, list[int]] = {}
    for place, (prompt, _) in enumerate(texts):
        by_prompt.setdefault(prompt, []).append(place)
    first_new = len(texts) - new
    seen = set(asked)
    found = []
    for places in by_prompt.values():
        for end, second in enumerate(places):
            if second < first_new:
                continue
            for first in places[:end]:
                pair = frozenset((texts[first], texts[second]))
                is_same = texts[first][1].split() == texts[second][1].split()
                if not is_same and pair not in seen:
                    seen.add(pair)
                    found.append((first, second))
    pairs = np.array(found, np.int64).reshape(-1, 2)
    if len(pairs) > limit:
        pairs = pairs[np.sort(rng.choice(len(pairs), limit, replace=False))]
    return pairs


def _without_repeats(order: list[int], places: npt.NDArray[np.int64], count: int) -> list[int]:
    taken: set[int] = set()
    picked: list[int] = []
    for pair in order:
        both = {int(places[pair, 0]), int(places[pair, 1])}
        if len(picked) < count and not both & taken:
            taken |= both
            picked.append(pair)
    return picked
