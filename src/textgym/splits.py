"""Which rows are held out: a share of the rows, near-copies and one prompt's texts on one side."""

from collections.abc import Callable, Iterator, Sequence
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

# What a reader of the held-out figures must know where not everything could be kept apart.
DIVIDED_PROMPTS = "note: too few prompts to hold whole ones out: texts of one are on both sides"
DIVIDED_BLOCKS = "note: blocks share texts: their rows are on both sides, but no text is"
DIVIDED_COPIES = (
    "note: near-copies chain most of these texts: only equal ones (case, spaces and punctuation "
    "aside) are kept on one side, so held-out figures may flatter"
)
DIVIDED_TEXTS = (
    "note: the same texts stand in most rows: only equal rows are kept on one side, so held-out "
    "figures flatter"
)


@dataclass(frozen=True)
class Split:
    """The sides of n rows.

    :param is_heldout: bool [n].
    :param note: what a reader of the held-out figures must know; "" for nothing.
    """

    is_heldout: Mask
    note: str = ""

    def divide(self, rows: Sequence[T]) -> tuple[list[T], list[T]]:
        """The training and the held-out ones of n rows."""
        return (
            [row for row, is_held in zip(rows, self.is_heldout, strict=True) if not is_held],
            [row for row, is_held in zip(rows, self.is_heldout, strict=True) if is_held],
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

    Where groups are so large that the share cannot be met, they come apart, and the note says so:
    first prompts, then blocks, then near-copies that are not equal, at last texts that stand in
    most rows. Equal rows never do.

    :param prompts: n prompts, "" for texts that stand alone.
    :param completions: n rows of one or several texts.
    :param share: of the rows, from 0 to 1, rounded to whole rows and then to whole groups.
    :param rng: draws the groups.
    :param blocks: int64 [n], rows of one number go to one side.
    :param by_prompt: rows of one prompt go to one side.
    :param least: fewest rows on either side.
    :param is_usable: whether held-out rows measure anything; if not, others are drawn, a few times.
    :raises InputError: if all rows are equal, or for a share outside 0 to 1.
    """
    if not 0 < share < 1:
        raise InputError(f"the share held out must be above 0 and below 1, got {share}")
    n, single = len(prompts), np.arange(len(prompts))
    fixed = single if blocks is None else merged(single, blocks)
    target = max(least, round(share * n))
    most = min(n - least, max(2 * target, int(_filled(fixed, target, rng).sum())))
    found: Split | None = None
    for groups, note in _levels(prompts, completions, fixed, by_prompt):
        for _ in range(DRAWS):
            is_held = _filled(groups, target, rng)
            if not max(least, target / 2) <= is_held.sum() <= most:
                break
            split = Split(is_held, note)
            if is_usable is None or is_usable(split):
                return split
            found = found or split
    if found is None:
        raise InputError(
            f"nothing can be held out: the {n} rows hold too few different texts: add others, or "
            "give held-out rows yourself"
        )
    return found


def _levels(
    prompts: Sequence[str], completions: Sequence[Sequence[str]], fixed: Integers, by_prompt: bool
) -> Iterator[tuple[Integers, str]]:
    """Groups of rows that stay together, int64 [n], ever smaller ones, each with its note."""
    row_of, texts, is_own = _compared_texts(prompts, completions)
    single = np.arange(len(prompts))
    equal = _joined_rows(single, row_of, equal_text_groups(texts))
    near_texts = near_copy_groups([texts[k] for k in np.flatnonzero(is_own).tolist()])
    near = _joined_rows(equal, row_of[is_own], near_texts)
    in_blocks = merged(near, fixed)
    if by_prompt:
        yield merged(in_blocks, equal_text_groups(prompts)), ""
    yield in_blocks, DIVIDED_PROMPTS if by_prompt else ""
    yield near, DIVIDED_BLOCKS
    yield equal, DIVIDED_COPIES
    whole = ["\n".join([prompt, *row]) for prompt, row in zip(prompts, completions, strict=True)]
    yield equal_text_groups(whole), DIVIDED_TEXTS


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
