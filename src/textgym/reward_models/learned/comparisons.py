"""Rated texts and preferences behind one face: texts, pairs of them, and batches to fit on."""

from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.reward_models.learned.pairs import (
    Agreement,
    Pairs,
    Rated,
    Ratings,
    agreement,
    all_rater_pairs,
    all_ratings,
    mean_ratings,
    rater_pairs,
)
from textgym.reward_models.pair_accuracy import clusters_of
from textgym.splits import Split, split_rows
from textgym.text_metrics.metrics import pearson

# Real raters that are drawn for a pair of a step: the labels' noise falls, the passes stay.
RATERS_PER_PAIR = 8


class Preferred(Protocol):
    """A preference: two completions of a prompt, the first the better one; a tie if `is_tie`."""

    @property
    def prompt(self) -> str:
        """What both complete."""

    @property
    def chosen(self) -> str:
        """The better completion."""

    @property
    def rejected(self) -> str:
        """The worse one."""


Row: TypeAlias = Rated | Preferred


class Comparisons:
    """What fitting needs to know about rows of either kind. See the two subclasses."""

    class Batch(NamedTuple):
        """Texts, pairs of places in them, and their ratings; None where people only compared."""

        texts: list[str]
        pairs: Pairs
        ratings: Ratings | None = None

    texts: list[str]
    prompts: list[str]
    """The prompt of each text, "" for none."""
    completions: list[str]
    """Each text without its prompt."""
    n_rows: int
    """Rows that they came from."""
    n_labels: int
    """Single judgements: ratings, or preferences."""
    groups: npt.NDArray[np.int64]
    """int64 [texts], which belong together: see `clusters_of`."""

    def pairs(self, rng: np.random.Generator, draws: int = 1) -> Pairs:
        """Pairs of places in `texts`; raters are drawn `draws` times."""
        raise NotImplementedError

    def whole(self, rng: np.random.Generator) -> "Comparisons.Batch":
        """All texts as one batch, each pair with the judgements of all who made it."""
        raise NotImplementedError

    def steps(self, batch_size: int) -> int:
        """Batches of one pass."""
        raise NotImplementedError

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator["Comparisons.Batch"]:
        """One pass in random order."""
        raise NotImplementedError

    def agreement(self, rng: np.random.Generator) -> Agreement:
        """How well people agree; NaN where it is not known."""
        return Agreement(float("nan"), float("nan"), 0)

    def correlation(self, scores: Sequence[float] | npt.NDArray[np.float64]) -> float:
        """Pearson's r of scores [texts] with mean ratings; NaN where there are none."""
        return float("nan")


class RatedTexts(Comparisons):
    """Comparisons by real raters between rated texts; a text's prompt, if any, stands before it."""

    def __init__(self, rows: Sequence[Rated]) -> None:
        self.rows = rows
        self.prompts = [getattr(row, "prompt", "") for row in rows]
        self.completions = [row.text for row in rows]
        self.texts = [p + c for p, c in zip(self.prompts, self.completions, strict=True)]
        self.n_rows, self.n_labels = len(rows), sum(len(row.ratings) for row in rows)
        mean_ratings(rows)  # checks
        blocks: dict[Hashable, list[int]] = {}
        for place, row in enumerate(rows):
            if row.block is not None:
                blocks.setdefault(row.block, []).append(place)
        self.blocks = [places for places in blocks.values() if len(places) > 1]
        self.loose = [place for place, row in enumerate(rows) if row.block is None]
        self.groups = clusters_of(rows)

    def pairs(self, rng: np.random.Generator, draws: int = 1) -> Pairs:
        """All pairs inside blocks, random pairs of texts without one."""
        return rater_pairs(self.rows, rng, draws=draws)

    def whole(self, rng: np.random.Generator) -> Comparisons.Batch:
        """See `all_rater_pairs`."""
        pairs = all_rater_pairs(self.rows, rng)
        return Comparisons.Batch(self.texts, pairs, all_ratings(self.rows))

    def steps(self, batch_size: int) -> int:
        """One per block, and one per `batch_size` texts without a block."""
        return len(self.blocks) + max(len(self.loose) // batch_size, int(len(self.loose) > 1))

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Comparisons.Batch]:
        """Whole blocks, and random groups of the texts without one.

        All pairs inside each, `RATERS_PER_PAIR` times, each time by other random raters.
        """
        groups = [list(places) for places in self.blocks]
        if len(self.loose) > 1:
            parts = max(len(self.loose) // batch_size, 1)
            groups += [part.tolist() for part in np.array_split(rng.permutation(self.loose), parts)]
        for turn in rng.permutation(len(groups)):
            places = groups[int(turn)]
            rows = [self.rows[place] for place in places]
            texts = [self.texts[place] for place in places]
            pairs = rater_pairs(rows, rng, draws=RATERS_PER_PAIR)
            yield Comparisons.Batch(texts, pairs, all_ratings(rows))

    def agreement(self, rng: np.random.Generator) -> Agreement:
        """Rater against rater, and against the rest."""
        return agreement(self.rows, rng)

    def correlation(self, scores: Sequence[float] | npt.NDArray[np.float64]) -> float:
        """Pearson's r with the mean ratings."""
        return pearson(list(scores), mean_ratings(self.rows).tolist())


class Preferences(Comparisons):
    """Comparisons that came as such: text 2k is the chosen one of row k, text 2k + 1 the other."""

    def __init__(self, rows: Sequence[Preferred]) -> None:
        self.completions = [end for row in rows for end in (row.chosen, row.rejected)]
        self.prompts = [row.prompt for row in rows for _ in range(2)]
        self.texts = [p + c for p, c in zip(self.prompts, self.completions, strict=True)]
        self.groups = clusters_of(rows)
        self.n_rows = self.n_labels = len(rows)
        self.label = np.array([0.5 if getattr(row, "is_tie", False) else 1.0 for row in rows])

    def _pairs_of(self, places: npt.NDArray[np.int64], label: npt.NDArray[np.float64]) -> Pairs:
        return Pairs(2 * places, 2 * places + 1, label)

    def pairs(self, rng: np.random.Generator, draws: int = 1) -> Pairs:
        """The rows as they are; nothing is drawn."""
        return self._pairs_of(np.arange(len(self.label), dtype=np.int64), self.label)

    def whole(self, rng: np.random.Generator) -> Comparisons.Batch:
        """The rows as they are."""
        return Comparisons.Batch(self.texts, self.pairs(rng))

    def steps(self, batch_size: int) -> int:
        """One per `batch_size` rows."""
        return -(-len(self.label) // batch_size)

    def batches(self, rng: np.random.Generator, batch_size: int) -> Iterator[Comparisons.Batch]:
        """Random rows, the last batch may be smaller."""
        order = rng.permutation(len(self.label))
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            texts = [self.texts[2 * row + side] for row in rows for side in (0, 1)]
            places = np.arange(len(rows), dtype=np.int64)
            yield Comparisons.Batch(texts, self._pairs_of(places, self.label[rows]))


def comparisons(rows: Sequence[Row]) -> Comparisons:
    """Rows of one kind as comparisons.

    :raises InputError: for no rows, rows of both kinds, or ratings that are missing or not finite.
    """
    is_preference = {hasattr(row, "chosen") for row in rows}
    if len(is_preference) != 1:
        what = "rows of both kinds" if rows else "no rows"
        raise InputError(
            f"no usable pairs: expected rated texts or preferences, got {what}: pass one kind"
        )
    if is_preference == {True}:
        return Preferences(cast(Sequence[Preferred], rows))
    return RatedTexts(cast(Sequence[Rated], rows))


def hold_out(rows: Sequence[Row], rng: np.random.Generator, share: float = 0.1) -> Split:
    """Which rows are held out; blocks, prompts of preferences and near-copies stay together.

    Rows that hold no decided pair would measure nothing: they are drawn anew, a few times.

    :raises InputError: if the rows cannot be divided so; see `textgym.splits.split_rows`.
    """
    if len(rows) < 4:
        raise InputError(
            f"no usable pairs: holding some out needs at least four rows, got {len(rows)}: add "
            "rows, or pass validation rows"
        )
    comparisons(rows)  # checks
    is_preference = hasattr(rows[0], "chosen")
    names: dict[Hashable, int] = {}
    blocks = [getattr(row, "block", None) for row in rows]
    numbers = [
        names.setdefault(place if block is None else (block,), place)
        for place, block in enumerate(blocks)
    ]

    def is_usable(split: Split) -> bool:
        return bool(comparisons(split.divide(rows)[1]).pairs(rng).is_decided.any())

    return split_rows(
        [getattr(row, "prompt", "") for row in rows],
        [(row.chosen, row.rejected) if is_preference else (row.text,) for row in rows],  # type: ignore[union-attr]
        share,
        rng,
        blocks=np.array(numbers, np.int64),
        by_prompt=is_preference,
        least=1 if is_preference else 2,
        is_usable=is_usable,
    )
