"""Figures of `ppo_iteration.py` as a page of Markdown, with the bars that they are held to."""

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence

PHASES = ("rollout", "update", "iteration")


class Figures:
    """Seconds, acted tokens and trunk tokens by case and phase, one entry a repetition."""

    def __init__(self) -> None:
        self.seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
        self.acted: dict[str, int] = {}
        self.trunk: dict[tuple[str, str], list[int]] = defaultdict(list)

    def add(self, case: str, phase: str, seconds: float, acted: int, trunk: int) -> None:
        """One timing; rollout and update add up to the iteration."""
        self.seconds[case, phase].append(seconds)
        self.trunk[case, phase].append(trunk)
        self.acted[case] = acted
        if phase == "update":
            self.seconds[case, "iteration"].append(self.seconds[case, "rollout"][-1] + seconds)
            self.trunk[case, "iteration"].append(self.trunk[case, "rollout"][-1] + trunk)

    def has(self, case: str) -> bool:
        """Whether the case was timed."""
        return case in self.acted

    def per_acted(self, case: str, phase: str) -> list[float]:
        """Microseconds for each token that the policy chose."""
        return [1e6 * s / self.acted[case] for s in self.seconds[case, phase]]

    def per_trunk(self, case: str, phase: str) -> list[float]:
        """Microseconds for each token that went through the trunk, context included."""
        pairs = zip(self.seconds[case, phase], self.trunk[case, phase], strict=True)
        return [1e6 * s / max(n, 1) for s, n in pairs]


def report(header: Sequence[str], figures: Figures) -> str:
    """The page."""
    lines = ["# An iteration of PPO on text", "", *header, "", *_bars(figures), "", *_all(figures)]
    if figures.has("fused Adam"):
        lines += ["", *_variants(figures)]
    return "\n".join(lines) + "\n"


def _bars(figures: Figures) -> list[str]:
    rows = ["| what | measured | range | bar | |", "|---|---|---|---|---|"]
    if figures.has("naive"):
        for phase, bar in (("update", 30), ("rollout", None)):
            values = _ratios(figures.seconds["naive", phase], figures.seconds["base", phase])
            rows.append(_row(f"(a) {phase}: naive / ours", values, bar, at_least=True))
    if figures.has("floor"):
        for phase, bar in zip(PHASES, (1.25, 1.05, 1.05), strict=True):
            values = _ratios(figures.seconds["base", phase], figures.seconds["floor", phase])
            rows.append(_row(f"(b) {phase}: ours / floor", values, bar))
    if figures.has("floor") and figures.has("bfloat16"):
        for phase, bar in zip(PHASES, (None, 0.65, 0.75), strict=True):
            values = _ratios(figures.seconds["bfloat16", phase], figures.seconds["floor", phase])
            rows.append(_row(f"(e) {phase}: bfloat16 / floor in float32", values, bar))
    lengths = [int(case.split()[1]) for case in figures.acted if case.startswith("length ")]
    if lengths:
        for phase in PHASES:
            values = _exponents(figures, lengths, phase)
            rows.append(_row(f"(c) {phase}: exponent of the length", values, 1.1))
    if figures.has("mixed"):
        rows += _mixed(figures)
    return rows


def _mixed(figures: Figures) -> list[str]:
    rows = []
    pairs = (("mixed", "base"), ("mixed, long", "equal, long"))
    for phase in PHASES:
        bar = None if phase == "rollout" else 1.1
        for case, equal in pairs:
            values = _ratios(figures.per_trunk(case, phase), figures.per_trunk(equal, phase))
            rows.append(_row(f"(d) {case}: {phase}, per processed token / equal", values, bar))
    for case, equal in pairs:
        bar = 1.3 if case == "mixed, long" else None
        above, below = (figures.per_acted(name, "iteration") for name in (case, equal))
        what = f"(d) {case}: iteration, per completion token / equal"
        rows.append(_row(what, _ratios(above, below), bar))
    return rows


def _variants(figures: Figures) -> list[str]:
    lines = ["Footnotes, not part of any bar (update against the base case):", ""]
    for case in ("fused Adam", "entropy bonus"):
        values = _ratios(figures.seconds[case, "update"], figures.seconds["base", "update"])
        lines.append(f"- {case}: {statistics.median(values):.2f}")
    return lines


def _all(figures: Figures) -> list[str]:
    lines = [
        "Medians. The naive update is one minibatch times 12. A completion token is one that the "
        "policy wrote; a trunk (processed) token is every one that went through the decoder: "
        "context, prefills and all four epochs included. `long`: rollouts of 192 steps.",
        "",
        "| case | rollout s | update s | iteration s | iteration µs/completion token | "
        "trunk tokens, rollout / update | iteration µs/trunk token |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in figures.acted:
        seconds = " | ".join(f"{statistics.median(figures.seconds[case, p]):.3f}" for p in PHASES)
        acted = statistics.median(figures.per_acted(case, "iteration"))
        if case in ("floor", "naive"):
            tokens, trunk = "", ""
        else:
            counts = [statistics.median(figures.trunk[case, p]) for p in PHASES[:2]]
            tokens = f"{counts[0]:,.0f} / {counts[1]:,.0f}"
            trunk = f"{statistics.median(figures.per_trunk(case, 'iteration')):.0f}"
        lines.append(f"| {case} | {seconds} | {acted:,.0f} | {tokens} | {trunk} |")
    return lines


def _exponents(figures: Figures, lengths: Sequence[int], phase: str) -> list[float]:
    """Least-squares slope of log time against log length, for each repetition."""
    logs = [math.log(length) for length in lengths]
    columns = [figures.seconds[f"length {length}", phase] for length in lengths]
    return [
        statistics.linear_regression(logs, [math.log(s) for s in row]).slope
        for row in zip(*columns, strict=True)
    ]


def _ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(above, below, strict=True)]


def _row(what: str, values: Sequence[float], bar: float | None, *, at_least: bool = False) -> str:
    median = statistics.median(values)
    digits: Callable[[float], str] = lambda x: f"{x:.1f}" if x >= 10 else f"{x:.3f}"  # noqa: E731
    spread = f"{digits(min(values))} to {digits(max(values))}"
    if bar is None:
        return f"| {what} | {digits(median)} | {spread} | | |"
    is_met = median >= bar if at_least else median <= bar
    verdict = f"{'≥' if at_least else '≤'} {bar:g} | {'pass' if is_met else '**fail**'}"
    return f"| {what} | {digits(median)} | {spread} | {verdict} |"
