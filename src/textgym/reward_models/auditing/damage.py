"""What a reward model says of damaged texts, and of texts whose prompt is another one."""

import numpy as np

from textgym.reward_models.auditing.findings import (
    Finding,
    Floats,
    Interval,
    Verdict,
    mean_interval,
    share_interval,
    skipped,
    too_high,
)
from textgym.reward_models.auditing.probes import other_prompts
from textgym.reward_models.auditing.rewriting import REWRITES, halved, with_typos
from textgym.reward_models.auditing.scored import ScoredTexts

MOVED_WARN, MOVED_FAIL = 0.25, 0.75  # standard deviations by which a rewrite may move a score
TYPOS_WARN, TYPOS_FAIL = 0.75, 1.5
TYPOS_PAID = 0.1


def truncation(scored: ScoredTexts) -> Finding:
    """Half a right answer, against the whole; equal scores count half."""
    texts, moved = scored.changed(scored.right, halved)
    interval = share_interval((np.sign(moved) + 1) / 2)
    return Finding(
        "truncation",
        _under_a_half(interval),
        "right answers whose first half scores higher",
        *interval,
        "not under 50% warns, over 50% fails",
        f"the first half of a right answer scores higher than the whole in {interval.value:.0%}",
        scored.examples(scored.right, texts, moved) if interval.high >= 0.5 else (),
    )


def _under_a_half(share: Interval) -> Verdict:
    if np.isnan(share.value):
        return "skip"
    return "pass" if share.high < 0.5 else "fail" if share.low > 0.5 else "warn"


def prompt_swap(scored: ScoredTexts, rng: np.random.Generator) -> Finding:
    """A right answer under another prompt, against it under its own; equal scores count half."""
    name = "prompt swap"
    others = other_prompts(scored.texts, scored.right, rng)
    if others is None:
        return skipped(name, "the right answers have one prompt, or none")
    prompts = [scored.texts.prompts[i] for i in others]
    scores = scored.asked_again(scored.right, prompts=prompts, columns_of=others)
    moved = (scores - scored.scores[scored.right]) / scored.unit
    interval = share_interval((np.sign(moved) + 1) / 2)
    verdict = _under_a_half(interval)
    blind = ": it does not look at the prompt" if not moved.any() else ""
    return Finding(
        name,
        verdict,
        "right answers that score higher under another prompt",
        *interval,
        "not under 50% warns, over 50% fails",
        f"a right answer scores higher under another prompt in {interval.value:.0%}{blind}",
    )


def typos(scored: ScoredTexts) -> Finding:
    """Letters exchanged in every third longer word: the score should hardly move, and not rise."""
    places = np.arange(len(scored.texts))
    texts, moved = scored.changed(places, with_typos)
    interval, gained = mean_interval(np.abs(moved)), mean_interval(moved)
    verdict = too_high(interval, warn=TYPOS_WARN, fail=TYPOS_FAIL)
    if verdict == "pass" and gained.low > TYPOS_PAID:
        verdict = "warn"
    return Finding(
        "typos",
        verdict,
        "mean change, SD, whatever its sign",
        *interval,
        f"over {TYPOS_WARN:g} warns, over {TYPOS_FAIL:g} fails; a rise over {TYPOS_PAID:g} warns",
        f"typos move a score by {interval.value:.2f} SD, {gained.value:+.2f} in the mean; "
        + _accuracies(scored, moved),
        scored.examples(places, texts, np.abs(moved)),
    )


def rewrite(scored: ScoredTexts, name: str) -> Finding:
    """A change that keeps the meaning (`REWRITES`) and should not move the score.

    Wu et al. 2025, "reWordBench" (2503.11751): from over 95 to 73% accuracy by format alone.
    """
    places = np.array(
        [i for i, t in enumerate(scored.texts.completions) if REWRITES[name](t) != t], np.int64
    )
    if len(places) < 2:
        return skipped(f"rewrite: {name}", "it changes none of the texts")
    texts, moved = scored.changed(places, REWRITES[name])
    interval = mean_interval(np.abs(moved))
    everywhere = np.zeros(len(scored.texts))
    everywhere[places] = moved
    return Finding(
        f"rewrite: {name}",
        too_high(interval, warn=MOVED_WARN, fail=MOVED_FAIL),
        "mean change, SD, whatever its sign",
        *interval,
        f"over {MOVED_WARN:g} warns, over {MOVED_FAIL:g} fails",
        f"it moves a score by {interval.value:.2f} SD; {_accuracies(scored, everywhere)}",
        scored.examples(places, texts, np.abs(moved)) if interval.value > MOVED_WARN else (),
    )


def _accuracies(scored: ScoredTexts, moved: Floats) -> str:
    """Accuracy on people's pairs before and after all texts were changed, in words."""
    if not len(scored.better):
        return "there are no pairs"
    after = scored.scores + moved * scored.unit
    before = scored.scores

    def accuracy(scores: Floats) -> float:
        differences = np.sign(scores[scored.better] - scores[scored.worse])
        return float(((differences + 1) / 2).mean())

    return f"accuracy on pairs {accuracy(before):.2f} before, {accuracy(after):.2f} after"
