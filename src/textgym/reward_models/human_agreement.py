"""How often a reward model ranks two texts as people did: what is known before it is trusted.

Any reward model, on ratings or preferences that it has not seen, beside how often two people agree
(the ceiling) and what a linear n-gram model reaches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.async_rewards import AsyncReward
from textgym.errors import InputError
from textgym.reward_models.composition import score_part
from textgym.reward_models.judges.preferring import preferences
from textgym.reward_models.learned.comparisons import Row, comparisons
from textgym.reward_models.learned.pairs import Pairs
from textgym.reward_models.pair_accuracy import clustered_interval, clusters_of
from textgym.rewards import Reward, check_reward, reward_name


@dataclass(frozen=True)
class HumanAgreement:
    """Pair accuracy of a reward model, and what to read it beside.

    :param accuracy: share of decided pairs that it ranks as people did; equal scores count half.
    :param low, high: 95% interval of the accuracy over new blocks of texts, or new prompts.
    :param baseline: accuracy of the baseline on the same pairs; NaN without one.
    :param rater_vs_rater: how often two people agree: the ceiling; NaN where it is not known.
    :param rater_vs_rest: how often one person agrees with the mean of the others; NaN likewise.
    :param equal: share of the pairs that it gave equal scores.
    :param pairs: different pairs of texts behind the accuracy.
    :param texts: texts that it was asked about.
    :param abstained: texts, or pairs, that it gave no score (None): they count for nothing.
    """

    name: str
    accuracy: float
    low: float
    high: float
    baseline: float
    rater_vs_rater: float
    rater_vs_rest: float
    equal: float
    pairs: int
    texts: int
    abstained: int = 0

    def rows(self) -> list[tuple[str, str]]:
        """Label and value of each line of a printed table; without what is not known."""
        interval = f" ({self.low:.3f} to {self.high:.3f})" if self.low == self.low else ""
        rows = [(f"pair accuracy of {self.name}", f"{self.accuracy:.3f}{interval}")]
        shares = [
            ("n-gram baseline", self.baseline),
            ("rater against rater (ceiling)", self.rater_vs_rater),
            ("rater against the rest", self.rater_vs_rest),
            ("pairs with equal scores", self.equal),
        ]
        rows += [(label, f"{value:.3f}") for label, value in shares if value == value]
        rows += [("pairs", str(self.pairs)), ("texts", str(self.texts))]
        return [*rows, ("without a score", str(self.abstained))] if self.abstained else rows


def agreement_with_people(
    reward: Reward,
    rows: Sequence[Row],
    *,
    baseline: Reward | None = None,
    texts: int | None = None,
    draws: int = 8,
    seed: int = 0,
) -> HumanAgreement:
    """Ask a reward model about texts that people judged, and compare.

    A judge that compares two texts (`is_pairwise`, with a method `prefer`) is asked about the pairs
    themselves; every other one scores each text once.

    :param rows: rated texts or preferences, all of one kind, that the reward model has not learned
        from.
    :param baseline: another reward model for the same pairs: an n-gram model that was fitted on
        other texts, such as the bundled `crowd`.
    :param texts: ask about at most so many (whole blocks of rated texts, whole preferences, drawn
        by `seed`), or about half as many pairs, where a call costs something; None: all.
    :param draws: how often a rater is drawn for each pair of rated texts.
    :raises InputError: for no usable pairs.
    :raises RewardError: from the reward model.
    """
    rng = np.random.default_rng(seed)
    rows = rows if texts is None else _some(rows, texts, rng)
    data = comparisons(rows)
    judge = getattr(reward, "reward", reward) if isinstance(reward, AsyncReward) else reward
    if getattr(judge, "is_pairwise", False):
        pairs = _first(data.pairs(rng), None if texts is None else max(1, texts // 2), rng)
        differences = _preferences(judge, rows, pairs)
        abstained = int(np.isnan(differences).sum())
    else:
        pairs = data.pairs(rng, draws=draws)
        scores = _scores(reward, rows)
        differences = scores[pairs.first] - scores[pairs.second]
        abstained = int(np.isnan(scores).sum())
    is_counted = pairs.is_decided & ~np.isnan(differences)
    if not is_counted.any():
        raise InputError(
            f"no usable pairs for {reward_name(reward)!r}: expected pairs that people decided "
            "between and both of whose texts it scores"
        )
    hits = _hits(differences, pairs)[is_counted]
    kept = Pairs(pairs.first[is_counted], pairs.second[is_counted], pairs.label[is_counted])
    clusters = clusters_of(rows)
    low, high = clustered_interval(hits, clusters[kept.first], clusters[kept.second])
    others = np.nan
    if baseline is not None:
        known = _scores(baseline, rows)
        others = float(np.nanmean(_hits(known[kept.first] - known[kept.second], kept)))
    people = data.agreement(rng)
    asked = np.unique(np.concatenate([pairs.first, pairs.second]))
    return HumanAgreement(
        reward_name(reward),
        float(hits.mean()),
        low,
        high,
        others,
        people.rater_vs_rater,
        people.rater_vs_rest,
        float((hits == 0.5).mean()),
        kept.count_decided(),
        len(asked),
        abstained,
    )


def _some(rows: Sequence[Row], texts: int, rng: np.random.Generator) -> list[Row]:
    """Whole blocks, or single rows where there are none, until there are so many texts."""
    if texts < 2:
        raise InputError(f"texts must be at least 2, a pair, got {texts}")
    is_preference = bool(rows) and hasattr(rows[0], "chosen")
    groups: dict[object, list[int]] = {}
    for place, row in enumerate(rows):
        block = None if is_preference else getattr(row, "block", None)
        groups.setdefault(place if block is None else (block,), []).append(place)
    in_order = list(groups.values())
    taken: list[int] = []
    for turn in rng.permutation(len(in_order)):
        left = (texts // 2 if is_preference else texts) - len(taken)
        if left < (1 if is_preference else 2):
            break
        taken += in_order[int(turn)][:left]
    return [rows[place] for place in sorted(taken)]


def _first(pairs: Pairs, most: int | None, rng: np.random.Generator) -> Pairs:
    """The decided ones of some pairs, at most so many of them, drawn."""
    places = np.flatnonzero(pairs.is_decided)
    if most is not None and len(places) > most:
        places = np.sort(rng.choice(places, most, replace=False))
    return Pairs(pairs.first[places], pairs.second[places], pairs.label[places])


def _texts(rows: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Prompts and completions, in the order that the places of pairs count; "" is no prompt."""
    if hasattr(rows[0], "chosen"):
        prompts = [row.prompt for row in rows for _ in range(2)]
        return prompts, [text for row in rows for text in (row.chosen, row.rejected)]
    return [getattr(row, "prompt", "") for row in rows], [row.text for row in rows]


def _scores(reward: Reward, rows: Sequence[Row]) -> npt.NDArray[np.float64]:
    """float64 [texts], NaN where it gave None."""
    return score_part(check_reward(reward), *_texts(rows), {}).scores


def _preferences(judge: Any, rows: Sequence[Row], pairs: Pairs) -> npt.NDArray[np.float64]:
    """float64 [p], above 0 where the judge prefers the first; NaN where it gave None."""
    prompts, completions = _texts(rows)
    first, second = pairs.first.tolist(), pairs.second.tolist()
    answers = preferences(
        judge,
        [prompts[place] for place in first],
        [completions[place] for place in first],
        [completions[place] for place in second],
    )
    return np.array([np.nan if answer is None else answer - 0.5 for answer in answers])


def _hits(differences: npt.NDArray[np.float64], pairs: Pairs) -> npt.NDArray[np.float64]:
    """float64 [p]: 1 where the better text scores higher, .5 where both score the same."""
    return (np.sign(differences) * np.sign(pairs.label - 0.5) + 1.0) / 2.0
