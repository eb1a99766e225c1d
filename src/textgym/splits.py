"""Which rows are held out: a share of the rows, near-copies and one prompt's texts on one side."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from textgym.errors import InputError
from textgym.near_copies import (
    Integers,
    equal_text_groups,
    joined,
    merged,
    near_copy_groups,
    text_key,
)

T = TypeVar("T")
Mask = npt.NDArray[np.bool_]

# Letters from which a completion is compared by itself: "Yes." under two prompts is two texts.
OWN_TEXT = 24
DRAWS = 20  # of held-out rows, until some are usable

ALIKE = (
    "note: near-copies chain most of these texts: only equal ones (case, spaces and punctuation "
    "aside) are kept on one side, so held-out figures may flatter"
)


@dataclass(frozen=True)
class Split:
    """The sides of n rows.

    :param is_training: bool [n].
    :param is_heldout: bool [n]; a row on neither side is left out: its text is on the other one.
    :param note: what a reader of the held-out figures must know; "" for nothing.
    """

    is_training: Mask
    is_heldout: Mask
    note: str = ""

    def divide(self, rows: Sequence[T]) -> tuple[list[T], list[T]]:
        """The training and the held-out ones of n rows."""
        return (
            [row for row, is_here in zip(rows, self.is_training, strict=True) if is_here],
            [row for row, is_here in zip(rows, self.is_heldout, strict=True) if is_here],
        )


def split_rows(
    prompts: Sequence[str],
    completions: Sequence[Sequence[str]],
    share: float,
    rng: np.random.Generator,
    *,
    blocks: Integers | None = None,
    by_prompt: bool = False,
    least: int = 1,
    is_usable: Callable[[Split], bool] | None = None,
) -> Split:
    """Hold out `share` of the rows, so that no near-copy of a training text is among them.

    Where one prompt or a chain of near-copies holds so many rows that the share cannot be met, the
    prompts come apart first, then near-copies that are not equal. Where even equal texts chain all
    rows, held-out rows whose text is also a training row's are left out. Both are in the note.

    :param prompts: n prompts, "" for texts that stand alone.
    :param completions: n rows of one or several texts.
    :param share: of the rows, from 0 to 1, rounded to whole rows and then to whole groups.
    :param rng: draws the groups.
    :param blocks: int64 [n], rows of one number always go to one side.
    :param by_prompt: rows of one prompt go to one side.
    :param least: fewest rows on either side.
    :param is_usable: whether held-out rows measure anything; if not, others are drawn, a few times.
    :raises InputError: if the rows cannot be divided, or a share outside 0 to 1.
    """
    if not 0 < share < 1:
        raise InputError(f"the share held out must be above 0 and below 1, got {share}")
    n = len(prompts)
    fixed = np.arange(n) if blocks is None else merged(np.arange(n), blocks)
    target = max(least, round(share * n))
    most = max(2 * target, int(_filled(fixed, target, rng).sum()))
    row_of, texts, is_own = _compared_texts(prompts, completions)
    equal_texts = equal_text_groups(texts)
    near_texts = near_copy_groups([texts[k] for k in np.flatnonzero(is_own).tolist()])
    equal = _joined_rows(fixed, row_of, equal_texts)
    near = _joined_rows(equal, row_of[is_own], near_texts)
    choices = [merged(near, equal_text_groups(prompts))] if by_prompt else []
    found: Split | None = None
    for groups in (*choices, near, equal):
        is_weak = groups is equal and len(np.unique(near)) < len(np.unique(equal))
        for _ in range(DRAWS):
            is_held = _filled(groups, target, rng)
            if not max(least, target / 2) <= is_held.sum() <= min(most, n - least):
                break
            split = Split(~is_held, is_held, ALIKE if is_weak else "")
            if is_usable is None or is_usable(split):
                return split
            found = found or split
    if found is not None:
        return found
    return _without_copies(row_of, equal_texts, _filled(fixed, target, rng), least)


def _compared_texts(
    prompts: Sequence[str], completions: Sequence[Sequence[str]]
) -> tuple[Integers, list[str], Mask]:
    """The row of each text, the texts, and which may have near-copies.

    A short completion stands with its prompt, and is compared for equality only.
    """
    rows, texts, is_own = [], [], []
    for row, (prompt, several) in enumerate(zip(prompts, completions, strict=True)):
        for text in several:
            is_own.append(not prompt or len(text_key(text)) >= OWN_TEXT)
            texts.append(text if is_own[-1] else f"{prompt}{text}")
            rows.append(row)
    return np.array(rows, np.int64), texts, np.array(is_own, bool)


def _joined_rows(rows: Integers, row_of: Integers, groups: Integers) -> Integers:
    """int64 [n], `rows` joined where their texts are in one group (named by its first text)."""
    return joined(rows, list(zip(row_of.tolist(), row_of[groups].tolist(), strict=True)))


def _without_copies(row_of: Integers, equal: Integers, is_held: Mask, least: int) -> Split:
    """The held-out rows without those that hold a training row's text.

    :raises InputError: if too few are left on a side.
    """
    is_copy = np.zeros(len(is_held), bool)
    is_copy[row_of[np.isin(equal, equal[~is_held[row_of]])]] = True
    kept = is_held & ~is_copy
    if kept.sum() < least or (~is_held).sum() < least:
        raise InputError(
            f"no rows can be held out: the {len(is_held)} rows fall into too few groups (blocks, "
            "copies of one text) to divide: add rows with other texts, or pass validation rows"
        )
    note = (
        f"note: {int(is_held.sum() - kept.sum())} rows are on neither side: their texts are also "
    )
    return Split(~is_held, kept, f"{note}training rows'")


def _filled(groups: Integers, target: int, rng: np.random.Generator) -> Mask:
    """bool [n], whole random groups with `target` rows together, or as near to it as they come."""
    numbers, group, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    is_chosen = np.zeros(len(numbers), bool)
    room = target
    for k in rng.permutation(len(numbers)).tolist():
        if sizes[k] <= room:
            is_chosen[k] = True
            room -= int(sizes[k])
    rest = np.flatnonzero(~is_chosen)
    if room and len(rest):
        smallest = rest[int(sizes[rest].argmin())]
        if sizes[smallest] < 2 * room or room == target:
            is_chosen[smallest] = True
    return np.asarray(is_chosen[group], bool)
