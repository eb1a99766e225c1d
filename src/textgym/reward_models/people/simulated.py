"""Simulated people: so that the loop with people can be measured, and tested, without any.

`RatingsRater` answers as real people did: for each question one real rater of both texts is drawn,
and that rater's scores decide. `JudgeRater` answers for texts that nobody ever rated, with what a
judge says of them: its answers are synthetic, and no people's opinion.

Both may be noisy as Boltzmann's distribution is: the first text is chosen with probability
σ((score₁ - score₂) / temperature), which is Bradley and Terry's model (1952).
"""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from scipy.special import expit

from textgym.errors import InputError
from textgym.reward_models.learned.pairs import Rated
from textgym.reward_models.people.records import Choice, Event, Reply, Winner
from textgym.reward_models.people.store import LabelStore
from textgym.rewards import Reward, call_reward


class SimulatedRater(Protocol):
    """Whoever says which of two completions is the better one."""

    def __call__(
        self, prompt: str, first: str, second: str, rng: np.random.Generator
    ) -> Winner | None:
        """The answer; None if this rater can say nothing of these texts."""


def boltzmann(difference: float, temperature: float | None, rng: np.random.Generator) -> Winner:
    """The answer of somebody who sees this difference of scores.

    :param temperature: in units of the scores; None: the higher score wins, equal ones tie.
    :raises InputError: for a temperature that is not above 0.
    """
    if temperature is None:
        return "tie" if difference == 0 else "first" if difference > 0 else "second"
    if not 0 < temperature < float("inf"):
        raise InputError(f"temperature must be positive and finite, got {temperature}")
    return "first" if rng.random() < expit(difference / temperature) else "second"


class RatingsRater:
    """Answers as the people did who rated these texts.

    Of texts of one block, one and the same person's scores are compared; of others, two people's.

    :param rated: texts with their ratings, such as `load_movie_reviews()`.
    :param temperature: of the noise, in units of the ratings; None for none.
    """

    def __init__(self, rated: Iterable[Rated], *, temperature: float | None = None) -> None:
        self._rated = {item.text: item for item in rated}
        self.temperature = temperature

    def __call__(
        self, prompt: str, first: str, second: str, rng: np.random.Generator
    ) -> Winner | None:
        """One real rater's answer; None for texts that nobody rated."""
        one, other = self._rated.get(prompt + first), self._rated.get(prompt + second)
        if one is None or other is None:
            return None
        place = int(rng.integers(len(one.ratings)))
        beside = place
        is_same = one.block is not None and one.block == other.block
        if not is_same or place >= len(other.ratings):
            beside = int(rng.integers(len(other.ratings)))
        difference = one.ratings[place] - other.ratings[beside]
        return boltzmann(float(difference), self.temperature, rng)


class JudgeRater:
    """Answers by what a judge says of two texts: synthetic.

    :param judge: a reward model.
    :param temperature: of the noise, in units of the judge's scores; None for none.
    """

    def __init__(self, judge: Reward, *, temperature: float | None = 1.0) -> None:
        self.judge, self.temperature = judge, temperature

    def __call__(self, prompt: str, first: str, second: str, rng: np.random.Generator) -> Winner:
        """The judge's answer, with noise."""
        scores = call_reward(self.judge, [prompt, prompt], [first, second], {}).scores
        return boltzmann(float(scores[0]) - float(scores[1]), self.temperature, rng)  # type: ignore[arg-type]


def answer_open(
    store: LabelStore,
    rater: SimulatedRater,
    *,
    name: str = "simulated",
    most: int = 1000,
    seed: int = 0,
    clock: Callable[[], float] = time.time,
) -> list[Event]:
    """Have a simulated rater answer what the store would show to a person of that name.

    :param most: answers at most.
    :param seed: of the rater's draws; each showing has its own.
    """
    found: list[Event] = []
    while len(found) < most:
        showings = store.next(name, kinds=("pair",))
        if not showings:
            break
        (showing,) = showings
        texts: Sequence[str] = [text.text for text in showing.item.texts]
        rng = np.random.default_rng([seed, showing.id])
        winner = rater(showing.item.prompt, texts[0], texts[1], rng)
        now = clock()
        reply = Reply(
            showing.id,
            secrets.token_hex(8),
            choice_of(winner, showing.is_swapped),
            reason="cannot_judge" if winner is None else None,
            shown_at=now,
            answered_at=now,
        )
        found.append(store.answer(name, reply))
    return found


def choice_of(winner: Winner | None, is_swapped: bool) -> Choice:
    """A winner as it is chosen on the screen; None is a skip."""
    if winner is None:
        return "skip"
    if winner in ("tie", "both_bad"):
        return winner
    return "a" if (winner == "first") != is_swapped else "b"
