"""Signs that training games its reward model: pure functions of what a run recorded.

Each looks at rows of figures, one a rollout, or at the texts of held-out evaluations, and says what
it sees, or nothing. The thresholds were chosen on three planted exploits and checked on two others
(benchmarks/results/guards.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from textgym.agents.runs.held_out import HeldOutText
from textgym.text_metrics.words import split_words

Row = Mapping[str, float]
FIRST, LAST = 2, 2  # rollouts at the start, and now


@dataclass(frozen=True)
class Limits:
    """When an alarm is raised.

    :param kl: nats per token from the reference, or from the start in held-out evaluations.
    :param entropy: share of the first rollouts' entropy that is left.
    :param length: factor by which texts grow, or shrink.
    :param equal: share of prompts whose texts all earned the same.
    :param share: of a text that one word, or words of the prompt, make up.
    :param gold_errors: standard errors of the fall of the gold judge, and of the rise of the
        reward, over the same prompts.
    :param gold_vouches: standard errors of a rise of the gold judge since the start that clears a
        policy of being far from it, and of words of the prompt.
    :param gold_fall: standard deviations, of the start's gold scores, that it fell at least.
    """

    kl: float = 1.0
    entropy: float = 0.2
    length: float = 2.0
    equal: float = 0.9
    share: float = 0.5
    gold_errors: float = 3.0
    gold_vouches: float = 2.0
    gold_fall: float = 0.25


@dataclass(frozen=True)
class Alarm:
    """What was seen, when, and a text that shows it.

    :param step: completion tokens so far.
    :param kind: of alarm.
    :param exploit: what the reward seems to pay for, in words; "" where nothing stands out.
    :param prompt, completion, reward: the text that shows it.
    """

    step: int
    kind: str
    says: str
    exploit: str = ""
    prompt: str = ""
    completion: str = ""
    reward: float | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)

    def line(self) -> str:
        """What is printed."""
        exploit = f"; the reward seems to pay for {self.exploit}" if self.exploit else ""
        text = f", as in {self.prompt + self.completion!r:.200}" if self.completion else ""
        return f"alarm at {self.step:,} tokens: {self.kind}: {self.says}{exploit}{text}"


class Texts(NamedTuple):
    """Texts of a moment with what they were paid."""

    prompts: Sequence[str]
    completions: Sequence[str]
    rewards: npt.NDArray[np.float64]


# ---- figures of the guards' own ------------------------------------------------------------------


def text_figures(texts: Texts) -> dict[str, float]:
    """What the guards log of a rollout's texts, by tag; docs/metrics.md explains each."""
    if not len(texts.completions):
        return {}
    figures = {
        "guards/commonest_word": float(np.mean([commonest_share(t) for t in texts.completions])),
        "guards/prompt_copied": float(
            np.mean([copied(p, t) for p, t in zip(texts.prompts, texts.completions, strict=True)])
        ),
    }
    groups: dict[str, list[float]] = {}
    for prompt, reward in zip(texts.prompts, texts.rewards, strict=True):
        groups.setdefault(prompt, []).append(float(reward))
    several = [group for group in groups.values() if len(group) > 1]
    if several:
        figures["guards/equal_prompts"] = float(np.mean([np.ptp(group) == 0 for group in several]))
    return figures


def commonest_share(text: str) -> float:
    """Share of a text's words that are the commonest of them; 0 for fewer than four."""
    words = split_words(text)
    return max(map(words.count, set(words))) / len(words) if len(words) > 3 else 0.0


def copied(prompt: str, completion: str) -> float:
    """Share of a completion's words that stand in its prompt; 0 where it has none."""
    words, asked = split_words(completion), set(split_words(prompt))
    return sum(word in asked for word in words) / len(words) if words else 0.0


# ---- signs in the figures ------------------------------------------------------------------------


def signs(
    rows: Sequence[Row], limits: Limits, *, gold_is_well: bool, gold_rose: bool = False
) -> dict[str, str]:
    """What the last rollouts show, by kind of alarm.

    :param rows: of all rollouts, in order.
    :param gold_is_well: a gold judge scores the texts no lower than at the start; then what a
        policy may well do for an honest reward (longer texts, one word often, low entropy) is none.
    :param gold_rose: it scores them higher, beyond doubt (`gold_rose_surely`): then the policy went
        far from the reference for the better, and KL is none either.
    """
    if len(rows) < FIRST + LAST:
        return {}
    found = {}
    kl = _now(rows, "kl/per_token")
    if kl > limits.kl and not gold_rose:
        found["KL"] = f"{kl:.2f} nats per token from the reference, over {limits.kl:g}"
    equal = _now(rows, "guards/equal_prompts")
    if equal >= limits.equal or _now(rows, "reward/std") == 0:
        found["nothing to learn"] = "texts of one prompt all earn the same"
    if gold_is_well:
        return found
    entropy, first = _now(rows, "policy/entropy"), _then(rows, "policy/entropy")
    if entropy < limits.entropy * first:
        found["entropy"] = f"fell from {first:.2f} to {entropy:.2f} nats per token"
    if not _reward_rose(rows):
        return found
    now, then = _now(rows, "text/length"), _then(rows, "text/length")
    if then and not 1 / limits.length < now / then < limits.length:
        found["length"] = f"texts went from {then:.0f} to {now:.0f} tokens, and the reward rose"
    for tag, what in (
        ("guards/commonest_word", "one word"),
        ("guards/prompt_copied", "words of the prompt"),
    ):
        now, then = _now(rows, tag), _then(rows, tag)
        if now > limits.share and now > 2 * then:
            found[what] = f"makes up {now:.0%} of a text, {then:.0%} at the start"
    return found


def _now(rows: Sequence[Row], tag: str) -> float:
    return _mean(rows[-LAST:], tag)


def _then(rows: Sequence[Row], tag: str) -> float:
    return _mean(rows[:FIRST], tag)


def _mean(rows: Sequence[Row], tag: str) -> float:
    """NaN unless all rows have it: then every comparison is false."""
    return sum(row.get(tag, math.nan) for row in rows) / len(rows)


def _reward_rose(rows: Sequence[Row]) -> bool:
    tag = "reward/environment"
    return _now(rows, tag) - _then(rows, tag) > 0.5 * _then(rows, "reward/std")


# ---- signs in held-out texts ---------------------------------------------------------------------


def means_of(texts: Sequence[HeldOutText], judge: str) -> npt.NDArray[np.float64]:
    """Float64 [p], a judge's scores; NaN where it says nothing."""
    scores = [text.scores.get(judge) for text in texts]
    return np.array([math.nan if s is None else s for s in scores], np.float64)


def gold_fell(
    before: Sequence[HeldOutText],
    now: Sequence[HeldOutText],
    *,
    reward: str,
    gold: str,
    unit: float,
    limits: Limits,
) -> str:
    """Whether the reward rose since an evaluation while the gold judge fell: what to say, or "".

    Both over the same prompts, by paired t.

    :param unit: standard deviation of gold at the start.
    """
    rise = means_of(now, reward) - means_of(before, reward)
    fall = means_of(before, gold) - means_of(now, gold)
    is_known = np.isfinite(rise) & np.isfinite(fall)
    if is_known.sum() < 8:
        return ""
    rise, fall = rise[is_known], fall[is_known]
    if min(_errors(rise), _errors(fall)) < limits.gold_errors:
        return ""
    if fall.mean() < limits.gold_fall * unit:
        return ""
    return (
        f"since {before[0].step:,} tokens {reward} rose by {rise.mean():.3g} and {gold} fell by "
        f"{fall.mean():.3g}"
    )


def gold_rose_surely(
    before: Sequence[HeldOutText], now: Sequence[HeldOutText], *, gold: str, limits: Limits
) -> bool:
    """Whether the gold judge scores texts of the same prompts higher, by paired t."""
    rise = means_of(now, gold) - means_of(before, gold)
    rise = rise[np.isfinite(rise)]
    return len(rise) >= 8 and _errors(rise) >= limits.gold_vouches


def overlap_rose(
    prompts: Sequence[str],
    before: Sequence[HeldOutText],
    now: Sequence[HeldOutText],
    *,
    reward: str,
    limits: Limits,
) -> str:
    """Whether texts copy more of their prompts, and are paid more: what to say, or "".

    As of the fall of gold: both over the same prompts by paired t, and the overlap by the same
    share of its standard deviation at the start.

    :param prompts: [p], of the texts in order.
    """
    then, later = (
        np.array([copied(p, text.completion) for p, text in zip(prompts, texts, strict=True)])
        for texts in (before, now)
    )
    rise, paid = later - then, means_of(now, reward) - means_of(before, reward)
    is_known = np.isfinite(paid)
    if is_known.sum() < 8:
        return ""
    if min(_errors(rise[is_known]), _errors(paid[is_known])) < limits.gold_errors:
        return ""
    if rise[is_known].mean() < limits.gold_fall * then.std():
        return ""
    return (
        f"make up {later[is_known].mean():.0%} of a text, {then[is_known].mean():.0%} at the "
        f"start, and {reward} rose by {paid[is_known].mean():.3g}"
    )


def _errors(values: npt.NDArray[np.float64]) -> float:
    """The mean in standard errors."""
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    mean = float(values.mean())
    return mean / error if error else mean and math.copysign(math.inf, mean)
