"""What a person's answers say of a policy before and after it was trained on others of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from textgym.agents.evaluation.bundled_rewards import crowd
from textgym.agents.evaluation.report import Interval
from textgym.agents.runs.held_out import HeldOutText
from textgym.reward_models.learned.pairs import pair_accuracy
from textgym.reward_models.people.answers import AnswerLog
from textgym.reward_models.people.human_reward import HumanReward
from textgym.reward_models.people.store import LabelStore
from textgym.reward_models.share_intervals import wilson_interval
from textgym.rewards_by_name import resolve_reward
from textgym.terminal import visible
from textgym.text_metrics.metrics import distinct_n

FEWEST = 10  # decided answers that a judge is fitted to


def human_figures(
    store: LabelStore,
    run: str,
    reward: str,
    prompts: Sequence[str],
    before: Sequence[HeldOutText],
    after: Sequence[HeldOutText],
) -> dict[str, Any]:
    """The figures of `report.json`.

    :param run: whose refits are looked at.
    :param reward: the human reward by name, whose features and settings are used.
    """
    people = resolve_reward(reward)
    assert isinstance(people, HumanReward)
    log = AnswerLog(store)
    log.read()
    refits = store.refits(run)
    fitted = list(refits[-1].answers) if refits else []
    is_blind = {i.id for i in log.items.values() if i.texts[0].source.get("which") == "before"}
    blind = [number for number in log.held_out() if log.events[number].item in is_blind]
    aside = [number for number in log.held_out() if log.events[number].item not in is_blind]
    texts = {name: _whole(prompts, t) for name, t in (("before", before), ("after", after))}
    figures: dict[str, Any] = {
        "answers": {
            "fitted": len(fitted),
            "late": len(set(log.counted()) - set(fitted)),
            "held_out": len(aside),
            "blind": len(blind),
        },
        "refits": len(refits),
        "accuracy": _accuracies(log, people, fitted, aside),
        "taste": _taste(log, people, fitted, aside, texts),
        "blind": _choices(log, blind),
    }
    figures["crowd"] = _change(*(np.asarray(crowd().score(t)) for t in texts.values()))
    for name, written in (("before", before), ("after", after)):
        completions = [text.completion for text in written]
        figures[name] = {
            "words": float(np.mean([len(text.split()) for text in completions])),
            "distinct_2": distinct_n(completions, 2),
            "kl": float(np.mean([text.kl for text in written])),
        }
    return figures


def _whole(prompts: Sequence[str], texts: Sequence[HeldOutText]) -> list[str]:
    return [prompt + text.completion for prompt, text in zip(prompts, texts, strict=True)]


def _accuracies(
    log: AnswerLog, people: HumanReward, fitted: Sequence[int], aside: Sequence[int]
) -> dict[str, Any]:
    """How often the last model, and the crowd's, side with the answers that are set aside."""
    answered = log.answered(aside)
    decided = int(answered.pairs.is_decided.sum())
    figures: dict[str, Any] = {"decided": decided}
    if not decided:
        return figures
    figures["crowd"] = _share(
        pair_accuracy(np.asarray(crowd().score(answered.texts)), answered.pairs), decided
    )
    if fitted:
        heads = people.fit(log.answered(fitted))
        scores = heads.scores(people.features(answered.texts)).mean(axis=0)
        figures["human"] = _share(pair_accuracy(scores, answered.pairs), decided)
    return figures


def _taste(
    log: AnswerLog,
    people: HumanReward,
    fitted: Sequence[int],
    aside: Sequence[int],
    texts: dict[str, list[str]],
) -> dict[str, Any] | None:
    """Texts before and after by a judge of the answers set aside; None where they are too few.

    In standard deviations of the texts before. Its `accuracy` is on the answers that the policy was
    trained on, which it has not seen.
    """
    own = log.answered(aside)
    if int(own.pairs.is_decided.sum()) < FEWEST:
        return None
    heads = people.fit(own)
    scores = [heads.scores(people.features(t)).mean(axis=0) for t in texts.values()]
    others = log.answered(fitted)
    figures = _change(*scores)
    if others.pairs.is_decided.any():
        own_scores = heads.scores(people.features(others.texts)).mean(axis=0)
        accuracy = pair_accuracy(own_scores, others.pairs)
        figures["accuracy"] = _share(accuracy, int(others.pairs.is_decided.sum()))
    return figures


def _change(before: np.ndarray, after: np.ndarray) -> dict[str, Any]:
    """Means in standard deviations of the texts before, whose mean is 0; the rise, by prompt."""
    unit = float(before.std()) or 1.0
    rise = Interval.of((after - before) / unit)
    level = Interval.of((before - before.mean()) / unit)
    return {
        "before": [0.0, level.half_width],
        "after": [rise.mean, Interval.of(after / unit).half_width],
        "rise": [rise.mean, rise.half_width],
    }


def _choices(log: AnswerLog, blind: Sequence[int]) -> dict[str, Any]:
    """How often which was chosen; the share of after among the decided."""
    winners = [log.events[number].winner for number in blind]
    counts = {"before": winners.count("first"), "after": winners.count("second")}
    decided = sum(counts.values())
    share = _share(counts["after"] / decided, decided) if decided else None
    return {**counts, "undecided": len(winners) - decided, "share_after": share}


def _share(share: float, count: int) -> list[float]:
    """A share with Wilson's 95% interval."""
    low, high = wilson_interval(share, count, 1.96)
    return [float(share), float(low), float(high)]


def print_human_figures(
    console: Console,
    figures: dict[str, Any],
    prompts: Sequence[str],
    before: Sequence[HeldOutText],
    after: Sequence[HeldOutText],
) -> None:
    """The tables, and what they mean in words."""
    counts = figures["answers"]
    console.print(
        f"\n[bold]5. What the answers say[/bold]: {counts['fitted']} learned from in "
        f"{figures['refits']} refits, {counts['late']} too late for one, {counts['held_out']} set "
        f"aside, {counts['blind']} blind ones",
        highlight=False,
    )
    console.print(_figures_table(figures))
    for line in _sentences(figures):
        console.print(f"  {line}", highlight=False)
    table = Table(title="Six prompts", title_justify="left", show_lines=True)
    for column in ("prompt", "before", "after"):
        table.add_column(column, overflow="fold")
    for prompt, one, other in list(zip(prompts, before, after, strict=True))[:6]:
        table.add_row(*(escape(visible(t)) for t in (prompt, one.completion, other.completion)))
    console.print(table)


def _figures_table(figures: dict[str, Any]) -> Table:
    table = Table(title="Held-out prompts, before and after", title_justify="left")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    named = (("your taste, by the answers set aside (SD)", "taste"), ("the crowd's (SD)", "crowd"))
    for title, name in named:
        if figures[name] is not None:
            sides = (figures[name][side] for side in ("before", "after"))
            table.add_row(title, *(f"{mean:+.2f} ± {half:.2f}" for mean, half in sides))
    for title, name in (("words", "words"), ("distinct-2", "distinct_2"), ("KL, nats", "kl")):
        table.add_row(title, *(f"{figures[side][name]:.2f}" for side in ("before", "after")))
    return table


def _sentences(figures: dict[str, Any]) -> list[str]:
    counts, accuracy, blind = figures["answers"], figures["accuracy"], figures["blind"]
    if not sum(counts.values()):
        return [
            "Nobody answered. The policy was trained on the crowd's taste alone, and nothing can be"
            " said of yours."
        ]
    lines = []
    if not counts["fitted"]:
        lines.append(
            "Too few answers came for a fit: the policy was trained on the crowd's taste alone."
        )
    if "human" in accuracy:
        lines.append(
            f"Of {accuracy['decided']} decided answers set aside, the model that was learned "
            f"from you sides with {_percent(accuracy['human'])}, the crowd's with "
            f"{_percent(accuracy['crowd'])}; half is chance."
        )
    if figures["taste"] is None:
        lines.append(f"Fewer than {FEWEST} decided answers were set aside: too few for a judge.")
    elif "accuracy" in figures["taste"]:
        lines.append(
            "The judge of your taste, fitted to the answers set aside alone, sides with "
            f"{_percent(figures['taste']['accuracy'])} of those that were learned from."
        )
    decided = blind["before"] + blind["after"]
    if decided:
        lines.append(
            f"Asked blind, you chose the text from after training in {blind['after']} of {decided} "
            f"pairs ({_percent(blind['share_after'])}; {blind['undecided']} undecided)."
        )
    else:
        lines.append("Nobody chose between texts from before and after.")
    return lines


def _percent(share: Sequence[float]) -> str:
    mean, low, high = share
    return f"{mean:.0%} [{low:.0%}, {high:.0%}]"
