"""What makes a verdict worth less, in words: few seeds, dependent judges, length, collapse."""

from collections.abc import Mapping, Sequence

import numpy as np

from textgym.agents.comparison.aggregates import mean, paired_difference
from textgym.agents.comparison.costs import costs_of
from textgym.agents.comparison.guard_alarms import guard_cautions
from textgym.agents.comparison.intervals import CONFIDENCE, Estimate, interval_of
from textgym.agents.comparison.judgements import (
    JudgedCell,
    Judgement,
    Scores,
    start_spread,
)
from textgym.agents.comparison.study import Floats, Study
from textgym.text_metrics.metrics import commonest_bigram

FEW_SEEDS = 3
ALIKE = 0.9  # rank correlation of two judges' scores
LENGTH_CORRELATION = 0.3
VARIETY = 0.8  # share of the start's distinct-2 under which texts count as alike


def cautions_of(
    study: Study, judgements: Sequence[Judgement], by_judge: Mapping[str, Scores]
) -> list[str]:
    """Everything that a reader of the verdict must be told; a sentence each.

    :param by_judge: the scores of all judges.
    """
    found = [
        *guard_cautions(study),
        *_collapse(study, judgements),
        *_few_seeds(judgements),
        *_missing_seeds(judgements),
        *_alike(study, by_judge),
    ]
    for judgement in judgements:
        if judgement.aggregate == "mean":
            found.append(
                f"{judgement.judge} gives half of a cell's texts one score, of which an "
                "interquartile mean says nothing: means are shown"
            )
        for cell in judgement.cells:
            found += _length(study, judgement, cell, by_judge[judgement.judge][cell.cell])
            found += _overoptimised(study, judgement, cell, by_judge)
    return found


def _collapse(study: Study, judgements: Sequence[Judgement]) -> list[str]:
    """Cells whose texts have become alike, and which judges put them first all the same."""
    found = []
    for cost in costs_of(study):
        if cost.distinct_2 >= VARIETY * cost.distinct_2_start:
            continue
        ends = [
            text.completion
            for run in study.runs_of(cost.cell)
            if run.record is not None and run.record.steps
            for text in run.record.texts[run.record.steps[-1]]
        ]
        bigram, share = commonest_bigram(ends)
        fooled = [j.judge for j in judgements if max(j.cells, key=_gain).cell == cost.cell]
        sentence = (
            f"{cost.cell}: its texts have become alike: distinct-2 {cost.distinct_2:.2f}, the "
            f'start\'s {cost.distinct_2_start:.2f}; "{bigram}" {share:.2f} times a text'
        )
        if fooled:
            sentence += (
                f"; {_names(fooled)} put{'s' if len(fooled) == 1 else ''} it first all the same: "
                "read its texts before you believe that"
            )
        found.append(sentence)
    return found


def _gain(cell: JudgedCell) -> float:
    return float(np.nan_to_num(cell.gain.value, nan=-np.inf))


def _few_seeds(judgements: Sequence[Judgement]) -> list[str]:
    few: dict[int, list[str]] = {}
    for cell in judgements[0].cells if judgements else ():
        if len(cell.seeds) < FEW_SEEDS:
            few.setdefault(len(cell.seeds), []).append(cell.cell)
    found = []
    if 1 in few:
        found.append(
            f"{_names(few[1])}: one seed, so the intervals are over prompts alone and say nothing "
            "of what another seed would do"
        )
    if 2 in few:
        found.append(
            f"{_names(few[2])}: two seeds hardly show how much seeds vary; the intervals are wide, "
            "left out where they cover 0 and reach beyond 10 SD, "
            f"and still cover less than they say (use {FEW_SEEDS} seeds, better 5)"
        )
    return found


def _missing_seeds(judgements: Sequence[Judgement]) -> list[str]:
    seeds = {cell.cell: set(cell.seeds) for cell in (judgements[0].cells if judgements else ())}
    if len(set(map(frozenset, seeds.values()))) < 2:
        return []
    everyone = set().union(*seeds.values())
    missing = [
        f"{label} has no seed {', '.join(map(str, sorted(everyone - own)))}"
        for label, own in seeds.items()
        if own != everyone
    ]
    return [f"{'; '.join(missing)}: cells are compared on the seeds that both have"]


def _alike(study: Study, by_judge: Mapping[str, Scores]) -> list[str]:
    """Gold judges that order the texts as a contestant does."""
    from scipy.stats import rankdata

    found = []
    for gold in study.gold():
        theirs = _all_scores(by_judge[gold])
        for reward in dict.fromkeys(cell.reward for cell in study.cells):
            if reward not in by_judge:
                continue
            ours = _all_scores(by_judge[reward])
            both = ~np.isnan(ours) & ~np.isnan(theirs)
            rho = _correlation(rankdata(ours[both]), rankdata(theirs[both]))
            if rho > ALIKE:
                found.append(
                    f"{gold} and {reward} are almost the same thing (rank correlation {rho:.2f} "
                    f"over the texts): what {gold} says of {reward} is no independent evidence"
                )
    return found


def _length(
    study: Study, judgement: Judgement, cell: JudgedCell, scores: Mapping[int, Floats]
) -> list[str]:
    """A gain of which at least half goes with the texts' length.

    The slope of score on length is taken within the start's texts and within the last ones, so that
    a trend of training alone makes none.
    """
    if not cell.gain.low > 0:
        return []
    lengths = {
        run.seed: [[text.length for text in run.record.texts[run.record.steps[k]]] for k in (0, -1)]
        for run in study.runs_of(cell.cell)
        if run.record is not None and run.record.steps
    }
    centred_scores, centred_lengths, means = [], [], []
    for evaluation in (0, -1):
        y = np.concatenate([scores[seed][evaluation] for seed in scores])
        x = np.concatenate([lengths[seed][evaluation] for seed in scores]).astype(np.float64)
        known = ~np.isnan(y)
        if not known.any():
            return []
        centred_scores.append(y[known] - y[known].mean())
        centred_lengths.append(x[known] - x[known].mean())
        means.append(x[known].mean())
    y, x = np.concatenate(centred_scores), np.concatenate(centred_lengths)
    r = _correlation(x, y)
    if not abs(r) >= LENGTH_CORRELATION:
        return []
    explained = float((x * y).sum() / (x**2).sum()) * (means[1] - means[0]) / judgement.spread
    if explained < cell.gain.value / 2:
        return []
    return [
        f"{cell.cell}: of its gain by {judgement.judge}, {cell.gain.value:+.2f} SD, about "
        f"{explained:+.2f} goes with length ({means[0]:.1f} to {means[1]:.1f} tokens; correlation "
        f"of score and length {r:+.2f})"
    ]


def _overoptimised(
    study: Study, judgement: Judgement, cell: JudgedCell, by_judge: Mapping[str, Scores]
) -> list[str]:
    """The own reward rose and the gold judge fell from its best evaluation to the last one."""
    reward = next(c.reward for c in study.cells if c.label == cell.cell)
    if reward not in by_judge:
        return []
    gold, own = (
        _evaluations(by_judge[judge][cell.cell]) / start_spread(by_judge[judge])
        for judge in (judgement.judge, reward)
    )
    n = gold.shape[1]
    if n < 2:
        return []
    best = int(np.argmax([np.nan_to_num(mean(gold[:, k]).value, nan=-np.inf) for k in range(n)]))
    if best == n - 1:
        return []
    # The best of n − 1 evaluations is chosen among them, and pays for the choice.
    level = (1 - CONFIDENCE) / (n - 1)
    fell, rose = (
        interval_of(paired_difference(of[:, -1], of[:, best], mean), level=level)
        for of in (gold, own)
    )
    if not (fell.high < 0 and rose.low > 0):
        return []
    return [
        f"{cell.cell} is over-optimised: after {cell.best_step:,} tokens its own reward {reward} "
        f"rose by {in_words(rose)} while {judgement.judge} fell by {in_words(fell)}"
    ]


def in_words(found: Estimate) -> str:
    """A difference in standard deviations, with its interval."""
    if np.isnan(found.low):
        return f"{found.value:+.2f} SD"
    return f"{found.value:+.2f} SD [{found.low:+.2f}, {found.high:+.2f}]"


def _evaluations(runs: Mapping[int, Floats]) -> Floats:
    """`[seed, evaluation, prompt]`, the evaluations that all seeds have."""
    n = min(map(len, runs.values()))
    return np.array([runs[seed][:n] for seed in sorted(runs)])


def _all_scores(scores: Scores) -> Floats:
    """Of the texts of all first and last evaluations, one after the other."""
    rows = [run[[0, -1]].ravel() for of_cell in scores.values() for run in of_cell.values()]
    return np.concatenate(rows) if rows else np.zeros(0)


def _correlation(x: Floats, y: Floats) -> float:
    """Pearson's r; NaN where one does not vary."""
    if len(x) < 2 or x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _names(labels: Sequence[str]) -> str:
    return "; ".join(labels)
