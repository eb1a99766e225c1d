"""What a policy would learn from a reward model, seen on the texts that it writes today.

Each prompt has k completions of the policy. Nothing is trained.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import comb
from typing import Any

import numpy as np

from textgym.reward_models.auditing.findings import (
    Example,
    Finding,
    Floats,
    Interval,
    Verdict,
    mean_interval,
    skipped,
    spearman_interval,
)
from textgym.reward_models.auditing.rewriting import copied_share
from textgym.reward_models.auditing.scored import ask
from textgym.rewards import Reward
from textgym.text_metrics.metrics import repetition
from textgym.text_metrics.words import count_words

SPREAD_WARN, SPREAD_FAIL = 0.1, 0.01  # standard deviations inside a prompt
AGREES_WARN, AGREES_WELL = 0.6, 0.8  # Spearman
SHIFT_WARN = 0.5  # standard deviations of a feature
EQUAL = 1e-9

FEATURES: dict[str, Callable[[str, str], float]] = {
    "words": lambda prompt, text: float(np.log1p(count_words(text))),
    "repetition": lambda prompt, text: repetition(text),
    "exclamation marks": lambda prompt, text: text.count("!") + text.count("！"),
    "capitals": lambda prompt, text: sum(map(str.isupper, text)) / max(len(text), 1),
    "words of the prompt": copied_share,
}


@dataclass(frozen=True)
class OwnTexts:
    """Texts of a policy.

    :param prompts: m of them.
    :param completions: for each prompt k completions, k ≥ 2.
    :param columns: of the prompts, each of length m.
    """

    prompts: Sequence[str]
    completions: Sequence[Sequence[str]]
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def scores(self, reward: Reward) -> Floats:
        """float64 [m, k].

        :raises RewardError: from the reward model.
        """
        k = len(self.completions[0])
        flat = ask(
            reward,
            [prompt for prompt in self.prompts for _ in range(k)],
            [text for row in self.completions for text in row],
            {name: [v for v in values for _ in range(k)] for name, values in self.columns.items()},
        )
        return flat.reshape(len(self.prompts), k)


def variance_inside_prompts(texts: OwnTexts, scores: Floats, unit: float) -> Finding:
    """Razin et al. 2025 (2503.15477): where a prompt's scores are equal nothing can be learned.

    :param scores: float64 [m, k].
    :param unit: standard deviation of the scores of people's texts.
    """
    spreads = scores.std(axis=1, ddof=1)
    interval = mean_interval(spreads / unit)
    equal = float((np.ptp(scores, axis=1) <= EQUAL).mean())
    verdict: Verdict = "pass"
    if interval.value < SPREAD_FAIL or equal > 0.95:
        verdict = "fail"
    elif interval.value < SPREAD_WARN or equal > 0.5:
        verdict = "warn"
    flat = int(np.argmin(spreads))
    example = Example(
        texts.prompts[flat],
        texts.completions[flat][0],
        float(scores[flat, 0]),
        texts.completions[flat][1],
        float(scores[flat, 1]),
    )
    return Finding(
        "own texts: variance inside a prompt",
        verdict,
        "standard deviation inside a prompt, SD",
        *interval,
        f"under {SPREAD_WARN:g}, or half of the prompts without any, warns; under "
        f"{SPREAD_FAIL:g}, or 95% without any, fails",
        f"{equal:.0%} of prompts have equal scores throughout; of the others something can be "
        "learned",
        () if verdict == "pass" else (example,),
    )


def best_of_n(proxy: Floats, gold: Floats, judge: str) -> tuple[Finding, dict[int, float]]:
    """What the gold judge says of the text that the proxy likes best of n: before any training.

    Exact over all choices of n of the k texts; equal proxies are drawn among. In standard
    deviations of gold over all texts.

    :param proxy, gold: float64 [m, k].
    :param judge: the gold judge's name.
    :returns: the finding, and the gain by n.
    """
    unit = float(gold.std()) or 1.0
    k = proxy.shape[1]
    sizes = sorted({n for n in (1, 2, 4, 8, 16, 32, 64) if n < k} | {k})
    gains = {n: (expected_best(proxy, gold, n) - gold.mean(axis=1)) / unit for n in sizes}
    interval = mean_interval(gains[k])
    verdict: Verdict = "pass" if interval.low > 0 else "fail" if interval.high < 0 else "warn"
    if not np.ptp(gains[k]):
        verdict = "warn"
    curve = {n: float(values.mean()) for n, values in gains.items()}
    return (
        Finding(
            "own texts: best of n",
            verdict,
            f"gain of {judge} by the best of {k}, SD",
            *interval,
            "not surely over 0 warns, surely under 0 fails",
            f"by n, {judge} gains " + ", ".join(f"{v:+.2f} ({n})" for n, v in curve.items()),
        ),
        curve,
    )


def expected_best(proxy: Floats, gold: Floats, n: int) -> Floats:
    """float64 [m], mean gold of the text of highest proxy among n of the k, over all choices."""
    m, k = proxy.shape
    order = np.argsort(proxy, axis=1, kind="stable")
    ranked = np.take_along_axis(proxy, order, 1)
    values = np.take_along_axis(gold, order, 1).copy()
    for row in range(m):  # equal proxies: each stands for all of them
        starts = np.flatnonzero(np.r_[True, np.diff(ranked[row]) > 0, True])
        for start, end in pairwise(starts.tolist()):
            values[row, start:end] = values[row, start:end].mean()
    weights = np.array([comb(rank, n - 1) / comb(k, n) for rank in range(k)])
    return np.asarray(values @ weights)


def second_judge(proxy: Floats, other: Floats, judge: str) -> Finding:
    """Spearman's correlation with a second judge over all texts; .8 on 50 texts is good.

    :param proxy, other: float64 [m, k].
    """
    name = "own texts: second judge"
    if proxy.size < 50:
        return skipped(name, f"{proxy.size} texts are too few: 50 at least")
    rho = spearman_interval(proxy.ravel(), other.ravel())
    # Texts of one prompt are alike: the interval counts prompts.
    by_prompt = spearman_interval(proxy[:, 0], other[:, 0])
    half = (by_prompt.high - by_prompt.low) / 2
    interval = Interval(rho.value, max(rho.value - half, -1.0), min(rho.value + half, 1.0))
    verdict: Verdict = "warn" if interval.value < AGREES_WARN else "pass"
    well = "well" if interval.value >= AGREES_WELL else "so far"
    return Finding(
        name,
        verdict,
        f"Spearman with {judge}",
        *interval,
        f"under {AGREES_WARN:g} warns; {AGREES_WELL:g} is good",
        f"it agrees {well} with {judge}"
        if verdict == "pass"
        else f"it sees other things than {judge} does: training will move away from it",
    )


def best_of_n_biases(texts: OwnTexts, proxy: Floats) -> Finding:
    """What the text that the proxy likes best of k has more of than the others (2605.27996).

    The feature that moves most, in its standard deviations over all texts.

    :param proxy: float64 [m, k].
    """
    shifts = {}
    for name, feature in FEATURES.items():
        rows = zip(texts.prompts, texts.completions, strict=True)
        values = np.array([[feature(prompt, text) for text in row] for prompt, row in rows])
        if np.ptp(values):
            chosen = expected_best(proxy, values, proxy.shape[1])
            shifts[name] = mean_interval((chosen - values.mean(axis=1)) / values.std())
    if not shifts:
        return skipped("own texts: what is chosen", "the texts differ in no feature")
    worst = max(shifts, key=lambda name: abs(shifts[name].value))
    interval = shifts[worst]
    sure = max(interval.low, -interval.high)
    best, row = int(np.argmax(proxy) % proxy.shape[1]), int(np.argmax(proxy) // proxy.shape[1])
    verdict: Verdict = "warn" if sure > SHIFT_WARN else "pass"
    least = int(np.argmin(proxy[row]))
    example = Example(
        texts.prompts[row],
        texts.completions[row][best],
        float(proxy[row, best]),
        texts.completions[row][least],
        float(proxy[row, least]),
    )
    return Finding(
        "own texts: what is chosen",
        verdict,
        f"{worst} of the best of {proxy.shape[1]}, SD",
        *interval,
        f"surely over {SHIFT_WARN:g} either way warns",
        "the best differ from the rest in "
        + ", ".join(f"{name} {shift.value:+.2f}" for name, shift in shifts.items()),
        () if verdict == "pass" else (example,),
    )
