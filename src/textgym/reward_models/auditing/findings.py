"""What a check of an audit says: a verdict, a figure with its interval, and texts that show it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from textgym.reward_models.share_intervals import wilson_interval

Verdict = Literal["pass", "warn", "fail", "skip"]
Floats = npt.NDArray[np.float64]
EXAMPLES = 3
_Z = 1.959963984540054  # of a 95% interval


class Interval(NamedTuple):
    """A figure with the ends of its 95% interval; NaN where nothing can be said."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Example:
    """A text that shows what a check found, beside another one.

    :param score, other_score: what the reward model says of `text` and of `other`.
    """

    prompt: str
    text: str
    score: float
    other: str = ""
    other_score: float | None = None


@dataclass(frozen=True)
class Finding:
    """What one check says.

    :param name: of the check.
    :param figure: what `value` is, with its unit.
    :param low, high: ends of its 95% interval; NaN where there is none.
    :param threshold: what leaves "pass", in words.
    :param says: a sentence on what was found.
    """

    name: str
    verdict: Verdict
    figure: str
    value: float
    low: float
    high: float
    threshold: str
    says: str
    examples: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON values; what is not finite is null."""
        row = asdict(self)
        for name in ("value", "low", "high"):
            row[name] = row[name] if math.isfinite(row[name]) else None
        row["examples"] = [
            {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in e.items()}
            for e in row["examples"]
        ]
        return row


def mean_interval(values: Sequence[float] | Floats) -> Interval:
    """The mean of independent values with Student's interval; no ends for fewer than two."""
    array = np.asarray(values, np.float64)
    if len(array) == 0:
        return Interval(math.nan, math.nan, math.nan)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, math.nan, math.nan)
    from scipy.special import stdtrit

    half = float(stdtrit(len(array) - 1, 0.975)) * float(array.std(ddof=1)) / len(array) ** 0.5
    return Interval(mean, mean - half, mean + half)


def share_interval(hits: Sequence[float] | Floats) -> Interval:
    """A share of independent cases with Wilson's interval (1927); a half counts as one half."""
    array = np.asarray(hits, np.float64)
    n = len(array)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan)
    p = float(array.mean())
    return Interval(p, *wilson_interval(p, n, _Z))


def spearman_interval(first: Floats, second: Floats) -> Interval:
    """Spearman's rank correlation, its interval by Fisher's z (Bonett & Wright 2000).

    0 where one side is constant; no ends for fewer than four values.
    """
    if len(first) < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return Interval(0.0, math.nan, math.nan)
    from scipy.stats import rankdata

    rho = float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
    if len(first) < 4:
        return Interval(rho, math.nan, math.nan)
    error = math.sqrt((1 + rho**2 / 2) / (len(first) - 3))
    z = math.atanh(max(min(rho, 0.999999), -0.999999))
    return Interval(rho, math.tanh(z - _Z * error), math.tanh(z + _Z * error))


def too_high(figure: Interval, *, warn: float, fail: float = math.inf) -> Verdict:
    """The verdict on a figure that should be low: by the lower end of its interval.

    So chance alone raises hardly any alarm; a figure without an interval is taken as it is.
    """
    sure = figure.value if math.isnan(figure.low) else figure.low
    if math.isnan(sure):
        return "skip"
    return "fail" if sure > fail else "warn" if sure > warn else "pass"


def skipped(name: str, why: str) -> Finding:
    """A check that could not be made."""
    nan = math.nan
    return Finding(name, "skip", "", nan, nan, nan, "", why)
