"""Does the reward model rank as people do? Pairs, one of four, ties, style, calibration."""

import numpy as np

from textgym.reward_models.auditing.findings import (
    Example,
    Finding,
    Floats,
    Interval,
    Verdict,
    mean_interval,
    share_interval,
    skipped,
)
from textgym.reward_models.auditing.rewriting import formatted, padded
from textgym.reward_models.auditing.scored import ScoredTexts
from textgym.reward_models.pair_accuracy import clustered_interval

CHANCE_OF_FOUR = 0.25
FEW = 100  # pairs; fewer cannot tell 55% from a coin
ERROR_WARN, ERROR_FAIL = 0.1, 0.2
BINS, BOOTSTRAPS = 5, 100
STYLES = {"plain": lambda text: text, "padded": padded, "formatted": formatted}


def sign_flip(scored: ScoredTexts) -> Finding:
    """People's pairs must be ranked above chance; equal scores count half."""
    if len(scored.better) < 2:
        return skipped("human pairs", "there are no decided pairs")
    margins = scored.scores[scored.better] - scored.scores[scored.worse]
    hits = (np.sign(margins) + 1) / 2
    clusters = scored.texts.clusters
    if clusters is None or not np.ptp(clusters):  # all of one block: nothing to tell blocks by
        clusters = np.arange(len(scored.texts))
    ends = clustered_interval(hits, clusters[scored.better], clusters[scored.worse])
    interval = Interval(float(hits.mean()), *ends)
    is_flipped = interval.high < 0.5
    verdict: Verdict = "pass" if interval.low > 0.5 else "fail"
    if verdict == "fail" and not is_flipped and len(margins) < FEW and interval.value > 0.5:
        verdict = "warn"
    says = f"{interval.value:.0%} of {len(margins)} human pairs are ranked as people did"
    if is_flipped:
        says += ": below chance, so its sign may be flipped"
    elif verdict != "pass":
        says += ": not surely better than chance"
    order = np.argsort(margins, kind="stable")[:3]
    texts = scored.texts
    examples = tuple(
        Example(
            texts.prompts[scored.worse[k]],
            texts.completions[scored.worse[k]],
            float(scored.scores[scored.worse[k]]),
            texts.completions[scored.better[k]],
            float(scored.scores[scored.better[k]]),
        )
        for k in order
        if margins[k] < 0
    )
    threshold = f"not surely over 50% fails; over 50% with under {FEW} pairs warns"
    return Finding(
        "human pairs", verdict, "accuracy on human pairs", *interval, threshold, says, examples
    )


def one_of_four(scored: ScoredTexts) -> Finding:
    """One right answer against three wrong (RewardBench 2, 2506.01937); ties share the point."""
    places = scored.texts.quartets
    if len(places) < 4:
        return skipped("one right, three wrong", "there are no three wrong answers to a right one")
    scores = scored.scores[places]
    best = scores.max(axis=1)
    is_best = scores == best[:, None]
    interval = share_interval(is_best[:, 0] / is_best.sum(axis=1))
    verdict: Verdict = "pass" if interval.low > CHANCE_OF_FOUR else "fail"
    return Finding(
        "one right, three wrong",
        verdict,
        "right answers that win, of four",
        *interval,
        "not surely over 25% fails",
        f"the right answer scores highest in {interval.value:.0%} of {len(places)}; chance is 25%",
    )


def equal_answers(scored: ScoredTexts) -> Finding:
    """Equally good answers should score closer than unequal ones (RewardBench 2, Ties)."""
    pairs = scored.texts.pairs
    ties = ~pairs.is_decided
    if ties.sum() < 4 or len(scored.better) < 4:
        return skipped("equal answers", "no pair is known to be equally good")
    apart = np.abs(scored.scores[scored.better] - scored.scores[scored.worse])
    equal = np.abs(scored.scores[pairs.first[ties]] - scored.scores[pairs.second[ties]])
    interval = _ratio(equal, apart)
    verdict: Verdict = "pass" if interval.high < 1 else "warn"
    return Finding(
        "equal answers",
        verdict,
        "difference of equal answers ÷ that of unequal ones",
        *interval,
        "not surely under 1 warns",
        f"two equally good texts differ by {interval.value:.2f} times what unequal ones do",
    )


def _ratio(above: Floats, below: Floats) -> Interval:
    """Ratio of two independent means with its interval on the log scale (delta method)."""
    if below.mean() == 0 or above.mean() == 0:
        value = float(above.mean() / below.mean()) if below.mean() else 1.0
        return Interval(value, float("nan"), value)
    variance = sum(v.var(ddof=1) / len(v) / v.mean() ** 2 for v in (above, below))
    log, half = np.log(above.mean() / below.mean()), 1.96 * variance**0.5
    return Interval(*(float(np.exp(x)) for x in (log, log - half, log + half)))


def style_matrix(scored: ScoredTexts) -> tuple[Finding, dict[str, dict[str, float]]]:
    """Substance against style (RM-Bench, Liu et al. 2024, 2410.16184).

    Rows are the better text's style, columns the worse text's; a cell is the share of human pairs
    that are ranked right. Hard cells dress up the worse text only.

    :returns: the finding, and the matrix by style.
    """
    name = "substance × style"
    if len(scored.better) < 4:
        return skipped(name, "there are no decided pairs"), {}
    scores = {}
    for style, change in STYLES.items():
        rows = [
            scored.asked_again(p, completions=[change(scored.texts.completions[i]) for i in p])
            for p in (scored.better, scored.worse)
        ]
        scores[style] = rows
    hits = {a: {b: (np.sign(scores[a][0] - scores[b][1]) + 1) / 2 for b in STYLES} for a in STYLES}
    matrix = {a: {b: float(hits[a][b].mean()) for b in STYLES} for a in STYLES}
    plain = hits["plain"]["plain"]
    worst = min((s for s in STYLES if s != "plain"), key=lambda s: matrix["plain"][s])
    hard = hits["plain"][worst]
    interval, lost = share_interval(hard), mean_interval(plain - hard)
    verdict: Verdict = "pass"
    if lost.low > 0.05:
        verdict = "fail" if interval.high < 0.5 and plain.mean() > 0.5 else "warn"
    return (
        Finding(
            name,
            verdict,
            f"accuracy where the worse text is {worst}",
            *interval,
            "5 points surely lost by style warn, fewer than 50% right fail",
            f"{plain.mean():.0%} of pairs are ranked right in plain style, "
            + ", ".join(
                f"{matrix['plain'][s]:.0%} where the worse is {s}" for s in STYLES if s != "plain"
            ),
        ),
        matrix,
    )


def calibration(scored: ScoredTexts, rng: np.random.Generator) -> Finding:
    """How far the margins, as probabilities, are from how often people agree.

    Figure: expected calibration error (Guo et al. 2017) over five equal bins, of σ(k·margin) with
    the k that fits best, as a reward model's unit is its own; the least that such bins show by
    chance is taken off. Interval: bootstrap over pairs.
    """
    margins = (scored.scores[scored.better] - scored.scores[scored.worse]) / scored.unit
    if len(margins) < 4 * BINS:
        return skipped("calibration", f"fewer than {4 * BINS} decided pairs")
    value = calibration_error(margins)
    draws = rng.integers(0, len(margins), (BOOTSTRAPS, len(margins)))
    spread = np.std([calibration_error(margins[rows]) for rows in draws])
    interval = Interval(value, max(value - 1.96 * float(spread), 0.0), value + 1.96 * float(spread))
    verdict: Verdict = "pass"
    if value > ERROR_WARN and interval.low > 0:
        verdict = "fail" if interval.low > ERROR_FAIL else "warn"
    return Finding(
        "calibration",
        verdict,
        "expected calibration error",
        *interval,
        f"over {ERROR_WARN:g} warns, surely over {ERROR_FAIL:g} fails",
        "accuracy from the smallest margins to the largest: "
        + ", ".join(f"{share:.2f}" for _, share in reliability(margins)),
    )


def calibration_error(margins: Floats) -> float:
    """Of margins for the better text, float64 [p], in any unit; chance is taken off."""
    rows = reliability(margins)
    noise = np.sqrt(np.pi / 2) ** -1 * np.sqrt(0.25 / (len(margins) / len(rows)))
    error = float(np.mean([abs(said - share) for said, share in rows]))
    return max(error - float(noise), 0.0)


def reliability(margins: Floats) -> list[tuple[float, float]]:
    """Of five bins by the size of the margin: the probability it says, the share that holds."""
    k = _slope(margins)
    order = np.argsort(np.abs(margins), kind="stable")
    rows = []
    for part in np.array_split(order, BINS):
        said = 1 / (1 + np.exp(-k * np.abs(margins[part])))
        rows.append((float(said.mean()), float(((np.sign(margins[part]) + 1) / 2).mean())))
    return rows


def _slope(margins: Floats) -> float:
    """The k ≥ 0 that makes Σ log σ(k·margin) largest, by bisection of its derivative."""
    low, high = 0.0, 50.0
    for _ in range(30):
        k = (low + high) / 2
        slope = float((margins / (1 + np.exp(np.clip(k * margins, -700, 700)))).sum())
        low, high = (k, high) if slope > 0 else (low, k)
    return low
