"""The texts that a reward model is audited on, and what people said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.learned.comparisons import Preferred
from textgym.reward_models.learned.pairs import Pairs, Rated, mean_ratings
from textgym.reward_models.pair_accuracy import clusters_of

Places = npt.NDArray[np.int64]
LEAST = 8  # texts; fewer say nothing


@dataclass(frozen=True)
class AuditTexts:
    """n texts with people's judgement of them.

    :param columns: further columns of the prompts, each of length n.
    :param pairs: places of two texts and which is the better one; each text is in one at most, so
        that pairs share no text. Ties are pairs of equally good texts.
    :param is_right: bool [n], the texts that people liked, or that answer their prompt.
    :param quartets: int64 [g, 4], places of one right answer and three wrong ones.
    :param ratings: float64 [n], mean ratings; None where people only compared.
    :param clusters: int64 [n], texts that one and the same people judged, or of one prompt, have
        the same number; None: each is by itself.
    """

    prompts: Sequence[str]
    completions: Sequence[str]
    pairs: Pairs
    is_right: npt.NDArray[np.bool_]
    quartets: Places
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    ratings: npt.NDArray[np.float64] | None = None
    clusters: Places | None = None

    def __len__(self) -> int:
        return len(self.prompts)


def of_ratings(rows: Sequence[Rated], rng: np.random.Generator, *, most: int = 400) -> AuditTexts:
    """Rated texts: the better half of them is right, and each has a partner in the other half.

    Partners are half the texts apart in the order of mean ratings, ties in it shuffled. Ties are
    neighbours in that order with the same mean, to a twentieth of the ratings' range.

    :param rows: with the attribute `prompt` where there is one.
    :param most: texts, drawn where there are more.
    :raises InputError: for fewer than 8 texts.
    """
    rows = _drawn(rows, rng, most)
    means = mean_ratings(rows)
    order = rng.permutation(len(rows))
    order = order[np.argsort(means[order], kind="stable")]
    half = len(order) // 2
    low, high = order[:half], order[len(order) - half :]
    is_apart = means[high] > means[low]
    low, high = low[is_apart], high[is_apart]
    near = order[: 2 * half].reshape(-1, 2)
    near = near[means[near[:, 1]] - means[near[:, 0]] <= np.ptp(means) / 20]
    is_right = np.zeros(len(rows), bool)
    is_right[high] = True
    top, wrong = order[-(len(order) // 4) :], rng.permutation(order[:half])
    groups = min(len(top), len(wrong) // 3)
    quartets = np.column_stack([rng.permutation(top)[:groups], wrong[: 3 * groups].reshape(-1, 3)])
    quartets = quartets[means[quartets[:, 0]] > means[quartets[:, 1:]].max(axis=1)]
    return AuditTexts(
        [getattr(row, "prompt", "") for row in rows],
        [row.text for row in rows],
        _pairs(high, low, near, rng),
        is_right,
        quartets,
        ratings=means,
        clusters=clusters_of(rows),
    )


def of_preferences(
    rows: Sequence[Preferred], rng: np.random.Generator, *, most: int = 400
) -> AuditTexts:
    """Preferences: what was chosen is right. Three rejected texts of a prompt make a quartet.

    :param most: texts, two for each preference.
    :raises InputError: for fewer than 4 preferences.
    """
    rows = _drawn(rows, rng, most // 2, least=LEAST // 2)
    prompts = [row.prompt for row in rows for _ in range(2)]
    completions = [text for row in rows for text in (row.chosen, row.rejected)]
    is_tie = np.array([bool(getattr(row, "is_tie", False)) for row in rows])
    chosen = 2 * np.arange(len(rows), dtype=np.int64)
    is_right = np.zeros(2 * len(rows), bool)
    is_right[chosen[~is_tie]] = True
    by_prompt: dict[str, dict[str, int]] = {}
    firsts: dict[str, int] = {}
    for place in chosen[~is_tie].tolist():
        firsts.setdefault(prompts[place], place)
        wrong = by_prompt.setdefault(prompts[place], {})
        wrong.setdefault(completions[place + 1], place + 1)
    quartets = [
        [firsts[prompt], *list(wrong.values())[:3]]
        for prompt, wrong in by_prompt.items()
        if len(wrong) >= 3
    ]
    ties = np.column_stack([chosen[is_tie], chosen[is_tie] + 1])
    return AuditTexts(
        prompts,
        completions,
        _pairs(chosen[~is_tie], chosen[~is_tie] + 1, ties, rng),
        is_right,
        np.array(quartets, np.int64).reshape(-1, 4),
        clusters=clusters_of(rows),
    )


def of_references(
    prompts: Sequence[str],
    references: Sequence[str],
    columns: Mapping[str, Sequence[Any]],
    rng: np.random.Generator,
    *,
    most: int = 400,
) -> AuditTexts:
    """Prompts with their right answers; wrong are the right answers of three other prompts.

    :param columns: of the prompts; a wrong answer stands with those of its prompt.
    :raises InputError: for fewer than 8 prompts, or fewer than 4 different answers.
    """
    keep: list[int] = rng.permutation(len(prompts))[: most // 4].tolist()
    if len(keep) < LEAST or len(set(references)) < 4:
        raise InputError(
            f"an audit needs {LEAST} prompts with 4 different answers at least, got "
            f"{len(keep)} with {len(set(references))}: add some, or give pairs"
        )
    answers = [references[i] for i in keep]
    different = list(dict.fromkeys(answers))
    texts: list[str] = []
    for answer in answers:
        others = [text for text in different if text != answer]
        texts += [answer, *(others[i] for i in rng.permutation(len(others))[:3])]
    each = [i for i in keep for _ in range(4)]
    quartets = np.arange(len(texts), dtype=np.int64).reshape(-1, 4)
    is_right = np.zeros(len(texts), bool)
    is_right[quartets[:, 0]] = True
    return AuditTexts(
        [prompts[i] for i in each],
        texts,
        _pairs(quartets[:, 0], quartets[:, 1], np.zeros((0, 2), np.int64), rng),
        is_right,
        quartets,
        {name: [values[i] for i in each] for name, values in columns.items()},
    )


def _drawn(
    rows: Sequence[Any], rng: np.random.Generator, most: int, *, least: int = LEAST
) -> list[Any]:
    if len(rows) < least:
        raise InputError(f"an audit needs {least} rows at least, got {len(rows)}: add some")
    return [rows[i] for i in np.sort(rng.permutation(len(rows))[:most])]


def _pairs(better: Places, worse: Places, ties: Places, rng: np.random.Generator) -> Pairs:
    """Decided pairs, with a coin's toss for which stands first, then ties."""
    is_swapped = rng.random(len(better)) < 0.5
    return Pairs(
        np.concatenate([np.where(is_swapped, worse, better), ties[:, 0]]),
        np.concatenate([np.where(is_swapped, better, worse), ties[:, 1]]),
        np.concatenate([np.where(is_swapped, 0.0, 1.0), np.full(len(ties), 0.5)]),
    )
