"""Dense rewards (`info["token_rewards"]`): a reward split by characters, split by tokens."""

from collections.abc import Sequence

import numpy as np

from textgym.reward_answers import Span
from textgym.tokenizer import Tokenizer
from textgym.tokenizer_decoding import Ids


def token_rewards(
    total: float,
    spans: Sequence[Span],
    turns: Sequence[tuple[str, Sequence[int] | None]],
    tokenizer: Tokenizer,
    before: Sequence[Ids] | None = None,
) -> list[float]:
    """The total of a text, split over the tokens that the player wrote.

    Each span's amount is shared evenly by its characters; a token gets what its characters got, and
    a character of several tokens counts for the last of them. What no token of the player's got
    (the part of the total that the spans leave, and spans over the environment's words) goes to the
    last token, so that the list sums to the total.

    :param spans: `(start, end, amount)` in characters of the whole completion.
    :param turns: the completion's parts in order: text, and the player's token ids or None where
        the environment spoke.
    :param before: the ids in front of each part; None: each begins a text.
    :return: one float per token of the player, in order.
    """
    rewards: list[float] = []
    offset = 0
    for (text, ids), prefix in zip(turns, before or [()] * len(turns), strict=True):
        if ids is not None:
            ends = offset + np.minimum(character_ends(ids, tokenizer, prefix), len(text))
            rewards.extend(_shares(spans, offset, ends))
        offset += len(text)
    if rewards:
        rewards[-1] = 0.0
        rewards[-1] = total - sum(rewards)
    return rewards


def fit_split(split: np.ndarray, paid: float) -> np.ndarray:
    """A split that sums to the reward that was really paid, which a wrapper may have changed.

    It is scaled. Only where its parts nearly cancel, and a factor above 1 would blow them up (the
    total is less than a tenth of their sizes), does the difference go to the last token.

    :param split: float64 [t], t > 0.
    :return: the split itself where it sums to `paid` in single precision.
    """
    total, size = float(split.sum()), float(np.abs(split).sum())
    if abs(paid - total) <= 1e-5 * max(size, abs(paid)):
        return split
    if total != 0 and (abs(paid) <= abs(total) or 10 * abs(total) >= size):
        return split * (paid / total)
    fitted = split.copy()
    fitted[-1] += paid - total
    return fitted


def character_ends(ids: Sequence[int], tokenizer: Tokenizer, before: Ids = ()) -> np.ndarray:
    """Int64 [t]: how many characters of the decoded text are complete after each token.

    :param before: the ids that the text goes on from.
    """
    ids = list(ids)
    prefixes = tokenizer.decode_continuations(
        [before] * len(ids), [ids[: i + 1] for i in range(len(ids))]
    )
    if not prefixes:
        return np.zeros(0, dtype=np.int64)
    # Half a character decodes to U+FFFD, which is not yet a character of the whole text.
    ends = [_common_start(prefix, prefixes[-1]) for prefix in prefixes]
    return np.maximum.accumulate(np.array(ends, dtype=np.int64))


def _common_start(prefix: str, whole: str) -> int:
    """How many characters the two begin with in common."""
    if whole.startswith(prefix):
        return len(prefix)
    return next(i for i, (a, b) in enumerate(zip(prefix, whole, strict=False)) if a != b)


def _shares(spans: Sequence[Span], start: int, ends: np.ndarray) -> list[float]:
    """What the characters of each token got; token i has [ends[i-1], ends[i])."""
    starts = np.concatenate([[start], ends[:-1]])
    shares = np.zeros(len(ends))
    for span_start, span_end, amount in spans:
        if span_end > span_start:
            overlap = np.minimum(ends, span_end) - np.maximum(starts, span_start)
            shares += amount * np.maximum(overlap, 0) / (span_end - span_start)
        else:  # a point: the token whose character stands there
            shares[(starts <= span_start) & (span_start < ends)] += amount
    return [float(share) for share in shares]
